"""Accounts: what a file may say, passwords kept as hashes only, quotas by the clock's intervals."""
import pytest

from weir.gateway import access, accounts, config, request
from weir.gateway.accounts import Account, Limits, Role
from weir.gateway.failures import Failure
from weir.gateway.quotas import Quotas

HASH = accounts.hashed("right")
ROLES = '[roles.reader]\ngrants = ["SELECT ON m.*"]\n'


def _load(tmp_path, text):
    (tmp_path / "a.toml").write_text(text)
    return accounts.load([tmp_path / "a.toml"])


def _code(call):
    with pytest.raises(Failure) as failed:
        call()
    return failed.value.code


def test_the_right_password_is_an_account_and_is_known_from_then_on(tmp_path):
    found = _load(tmp_path, ROLES + f'[users.ana]\nrole = "reader"\npassword_scrypt = "{HASH}"\n')
    assert found.known("ana", "right") is None
    assert found.authenticate("ana", "right") == Account("ana", Role("reader", ("SELECT ON m.*",)))
    assert found.known("ana", "right") is not None
    assert "right" not in repr(found)
    for name, password in [("ana", "wrong"), ("ana", ""), ("ben", "right"), ("", "right"), ("anar", "ight")]:
        assert found.known(name, password) is None
        assert _code(lambda n=name, p=password: found.authenticate(n, p)) == 516


def test_two_hashes_of_one_password_differ_and_both_match():
    assert accounts.hashed("x") != accounts.hashed("x")
    assert accounts.matches("right", HASH)
    assert not accounts.matches("right", HASH[:-4] + "AAA=")
    assert not accounts.matches("right", "right")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[users.ana]\nrole = 'x'\npassword_scrypt = 'plain'", "password_scrypt"),
        (f"[users.ana]\nrole = 'x'\npassword_scrypt = '{HASH}'", "no role 'x'"),
        (f"[users.ana]\nrole = 'x'\npassword = 'y'\npassword_scrypt = '{HASH}'", "password is unknown"),
        (f"[users.default]\nrole = 'x'\npassword_scrypt = '{HASH}'", "keeps this name"),
        ("[roles.engine]", "keeps this name"),
        ("[roles.'a b']", "a name has letters"),
        ("[roles.a]\ngrants = ['SELECT ON m.*; GRANT ALL ON *.* TO x']", "text after GRANT"),
        ("[roles.a]\ngrants = ['</query>']", "text after GRANT"),
        ("[roles.a]\nadmin = 'yes'", "true or false"),
        ("[roles.a]\nquota = {queries = -1}", "whole numbers"),
        ("[roles.a]\nquota = {interval_s = 0}", "whole numbers"),
        ("[roles.a]\nquota = {rows = 1}", "rows is unknown"),
        ("[roles.a]\ndefines_views = true\n[roles.b]\ndefines_views = true", "one role at most"),
        ("[role.a]", "role is unknown"),
        ("[roles", "a.toml"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_it(tmp_path, text, says):
    with pytest.raises(ValueError, match=says.replace("(", ".")):
        _load(tmp_path, text)


def _asked(headers=None, url=None):
    return request.Request("POST", "/", url or {}, headers or {})


def test_a_name_and_password_come_one_way_only():
    assert request.credentials(_asked()) == ("default", "")
    assert request.credentials(_asked({"authorization": "Basic YTpiOmM="})) == ("a", "b:c")
    assert request.credentials(_asked({"x-clickhouse-user": "a", "x-clickhouse-key": "b"})) == ("a", "b")
    assert request.credentials(_asked(url={"user": "a", "password": "b"})) == ("a", "b")
    for wrong in (
        _asked({"authorization": "Basic YTpi", "x-clickhouse-user": "a"}),
        _asked({"authorization": "Basic YTpi"}, {"user": "a"}),
        _asked({"x-clickhouse-key": "b"}, {"password": "b"}),
        _asked({"authorization": "Basic !"}),
        _asked({"authorization": "Bearer x"}),
    ):
        assert _code(lambda w=wrong: request.credentials(w)) == 516


def test_a_quota_ends_with_its_interval_and_is_each_users_own():
    now = [7200.0]
    quotas = Quotas(lambda: now[0])
    role = Role("r", limits=Limits(3600, queries=2, read_rows=100))
    ana, ben = Account("ana", role), Account("ben", role)
    quotas.begin(ana)
    quotas.begin(ana)
    assert _code(lambda: quotas.begin(ana)) == 201
    quotas.begin(ben)
    quotas.end(ben, 100)
    assert _code(lambda: quotas.begin(ben)) == 201
    now[0] = 10_799.0
    assert _code(lambda: quotas.begin(ben)) == 201
    now[0] = 10_800.0
    quotas.begin(ben)
    quotas.begin(ana)
    for _ in range(10):
        quotas.begin(Account("anyone"))


def test_without_users_the_engine_has_no_roles_and_with_them_every_lock():
    alone = config.users_xml(None, 1 << 30)
    assert "<grants>" not in alone
    assert "<readonly/>" not in alone
    roles = {"a": Role("a", ("SELECT ON m.*",)), "b": Role("b", admin=True), "v": Role("v", defines_views=True)}
    text = config.users_xml(accounts.Accounts(roles, {}), 1 << 30)
    assert "<query>GRANT engine, a, b, v</query>" in text
    assert "<query>GRANT SET DEFINER ON v</query>" in text
    assert "hasAny(currentRoles(), ['engine', 'b'])" in text
    for name in config.LOCKED:
        assert f"<{name}><readonly/></{name}>" in text


@pytest.mark.parametrize(
    "sql",
    ["SELECT a FROM t WHERE b = 1", "INSERT INTO t FORMAT ArrowStream", "INSERT INTO t FORMAT Values", "SELECT profile, user_profile_exports FROM x", "SELECT NULL", "SELECT 1 FORMAT JSON"],
)
def test_a_plain_statement_needs_no_look(sql):
    assert not access.suspect(sql.encode())


@pytest.mark.parametrize(
    "sql",
    ["SET ROLE x", "SELECT \"f\\x69le\"('x')", "SELECT file('x')", "SELECT file ('x')", "SELECT `file`('x')", "SELECT arrayMap(file, x)", "SELECT * FROM VALUES('a')", "SELECT * FROM values/**/('a')",
     "SELECT * FROM generateRandom -- x\n('a')", "SELECT 1 INTO/**/OUTFILE 'x'", "SELECT * FROM null`('x')", "CREATE VIEW v DEFINER=x AS SELECT 1", "attach table x"],
)  # fmt: skip
def test_a_suspect_one_is_looked_at(sql):
    assert access.suspect(sql.encode())
