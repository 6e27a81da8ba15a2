"""Alias and pointer move together, and heal after a kill between them."""
import numpy as np
import pytest

from weir.contracts import model as m
from weir.errors import ContractViolation
from weir.training import champion as c


class FakeAlias:
    def __init__(self):
        self.held, self.broken = "", False

    def set_alias(self, mlflow_version):
        if self.broken:
            raise OSError("killed")
        self.held = mlflow_version

    def alias(self):
        return self.held


def _export(home, version, number, at_ms=1, scores=(0.2, 0.2, 0.1, 0.1)):
    """Write a version; `scores`: recall and NDCG, then popularity's."""
    one = np.ones(1, np.int64)
    facts = m.ModelManifest(version, at_ms, 1, 1, 1, 10, *scores, number)
    m.write_model(home, facts, m.Factors(one, one, np.ones((1, 1), np.float32), np.ones((1, 1), np.float32), np.array([0, 1]), one))


@pytest.fixture
def home(tmp_path):
    for n in ("1", "2"):
        _export(tmp_path, f"v{n}", n)
    return tmp_path


def test_promotion_and_rollback_move_both(home):
    alias = FakeAlias()
    c.promote(home, alias, "v1")
    c.promote(home, alias, "v2")
    assert (m.read_pointer(home), alias.held) == (m.Pointer("v2", ("v1", "")), "2")
    c.rollback(home, alias)
    assert (m.read_pointer(home).version, alias.held) == ("v1", "1")
    c.rollback(home, alias)
    assert (m.read_pointer(home), alias.held) == (m.Pointer(), "")
    with pytest.raises(ContractViolation):
        c.rollback(home, alias)


def test_promoting_the_champion_again_leaves_no_trace(home):
    alias = FakeAlias()
    c.promote(home, alias, "v1")
    assert c.promote(home, alias, "v1") == m.Pointer("v1", ("",))


def test_a_kill_between_pointer_and_alias_heals(home):
    alias = FakeAlias()
    c.promote(home, alias, "v1")
    alias.broken = True
    with pytest.raises(OSError, match="killed"):
        c.promote(home, alias, "v2")
    alias.broken = False
    assert c.reconcile(home, alias) is True
    assert (m.read_pointer(home).version, alias.held) == ("v2", "2")
    assert c.reconcile(home, alias) is False


def test_a_version_that_is_not_whole_or_leaves_the_folder_is_refused(home):
    (home / "models" / "v2" / "factors.npz").unlink()
    for version in ("v2", "v9", "../v1"):
        with pytest.raises(ContractViolation):
            c.promote(home, FakeAlias(), version)
    assert m.read_pointer(home) == m.Pointer()


@pytest.mark.parametrize("scores", [
    pytest.param((0.2, 0.2, 0.2, 0.2), id="equal"), pytest.param((0.2, 0.1, 0.2, 0.2), id="worse ndcg"), pytest.param((0.1, 0.3, 0.2, 0.2), id="worse recall"),
    pytest.param((0.0, 0.0, 0.0, 0.0), id="judged on nobody")])
def test_a_version_that_did_not_beat_popularity_is_refused_and_nothing_moves(home, scores):
    alias = FakeAlias()
    c.promote(home, alias, "v1")
    _export(home, "v3", "3", scores=scores)
    with pytest.raises(ContractViolation, match=r"v3 did not beat popularity: NDCG@10 .* train another"):
        c.promote(home, alias, "v3")
    assert (m.read_pointer(home), alias.held) == (m.Pointer("v1", ("",)), "1")


def test_a_better_ndcg_and_the_same_recall_are_enough(home):
    _export(home, "v3", "3", scores=(0.2, 0.3, 0.2, 0.2))
    assert c.promote(home, FakeAlias(), "v3").version == "v3"


def test_why_no_champion_is_named_is_told_only_where_it_is_known(tmp_path):
    assert m.why_popularity(tmp_path) is m.WhyPopularity.NOTHING_TRAINED
    _export(tmp_path, "v1", "1", scores=(0.1, 0.1, 0.2, 0.2))
    assert m.why_popularity(tmp_path) is m.WhyPopularity.NOT_BEATEN
    _export(tmp_path, "v2", "2")  # killed before it was promoted
    assert m.why_popularity(tmp_path) is None
    c.promote(tmp_path, FakeAlias(), "v2")
    assert m.why_popularity(tmp_path) is None
    c.rollback(tmp_path, FakeAlias())
    assert m.why_popularity(tmp_path) is m.WhyPopularity.ROLLED_BACK


def test_an_export_whose_record_cannot_be_read_leaves_it_unknown(tmp_path):
    _export(tmp_path, "v1", "1", scores=(0.1, 0.1, 0.2, 0.2))
    (tmp_path / "models" / "v1" / "manifest.json").write_text("{")
    assert m.why_popularity(tmp_path) is None


def test_an_unreadable_pointer_says_what_to_do(home):
    (home / "models" / "champion").write_text("{")
    with pytest.raises(ContractViolation, match="promote VERSION"):
        m.read_pointer(home)


class Registry(FakeAlias):
    def __init__(self):
        super().__init__()
        self.forgotten = []

    def forget(self, version):
        self.forgotten.append(version)


def _trained(home, at_ms):
    _export(home, f"v{at_ms}", str(at_ms), at_ms)
    return f"v{at_ms}"


def test_after_many_trainings_champion_those_before_it_and_the_newest_others_are_left(tmp_path):
    registry = Registry()
    for at_ms in range(1, 41):
        version = _trained(tmp_path, at_ms)
        if at_ms % 4 == 1:  # three of four lose
            c.promote(tmp_path, registry, version)
        c.prune(tmp_path, registry)
    pointer = m.read_pointer(tmp_path)
    assert (pointer.version, len(pointer.previous)) == ("v37", m.HISTORY_MAX)
    left = {p.name for p in m.models_folder(tmp_path).glob("v*")}
    assert left == {pointer.version, *pointer.previous, "v40", "v39", "v38", "v36", "v35"}
    assert sorted(registry.forgotten) == sorted(f"v{n}" for n in range(1, 41) if f"v{n}" not in left)
    while m.read_pointer(tmp_path).previous:
        c.rollback(tmp_path, registry)  # to each that is still named


def test_pruning_that_was_killed_is_made_good_the_next_time(tmp_path):
    registry = Registry()
    for at_ms in range(1, 9):
        _trained(tmp_path, at_ms)
    registry.forget = lambda version: (_ for _ in ()).throw(OSError("killed"))
    with pytest.raises(OSError, match="killed"):
        c.prune(tmp_path, registry)
    assert len(list(m.models_folder(tmp_path).glob("v*"))) == 8
    assert c.prune(tmp_path, Registry()) == ["v3", "v2", "v1"]
