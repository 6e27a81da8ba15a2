"""What would change in the connector, without a Connect."""
from weir.connect.connector import Plan, Setting, differences
from weir.connect.register import LIST, keeping, tables

BASE = {LIST: "public.users,public.weir_signal", "tasks.max": "1"}


def test_settings_that_differ_are_named_with_both_values():
    assert differences({"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "5", "d": "4"}) == (Setting("b", "2", "5"), Setting("c", "3", None), Setting("d", None, "4"))
    assert str(Setting("c", "3", None)) == "c: 3 -> (none)"
    assert not Plan("shop", registered=True, task="RUNNING", settings=()).changes
    assert Plan("shop", registered=False, task="NONE", settings=()).changes


def test_a_start_takes_no_added_table_out_of_the_live_list():
    live = BASE | {LIST: "public.users,public.orders,public.weir_signal"}
    assert tables(keeping(BASE, live)) == ["public.users", "public.weir_signal", "public.orders"]
    assert keeping(BASE, {}) == BASE
    assert keeping(BASE, live)["tasks.max"] == "1"
