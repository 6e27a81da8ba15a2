"""What every service, and whatever `./weir run` runs, is told about sending anything home."""
import sys

from weir.stack import services, settings

# name: (value, why it is there). tests/contract/test_phones_nobody.py sees what the tools do with it.
WANTED = {
    "DO_NOT_TRACK": ("1", "dbt and MLflow heed it, as other tools do (consoledonottrack.com)"),
    "DBT_SEND_ANONYMOUS_USAGE_STATS": ("false", "dbt tells each invocation otherwise"),
    "STREAMLIT_BROWSER_GATHER_USAGE_STATS": ("false", "the page has the browser tell each look otherwise"),
    "MLFLOW_DISABLE_TELEMETRY": ("true", "MLflow tells each run and model otherwise"),
    "FEAST_USAGE": ("False", "Feast told each command up to the version that dropped it"),
    "SCARF_NO_ANALYTICS": ("true", "packages that count their installs and starts by Scarf"),
    "GIT_PYTHON_REFRESH": ("quiet", "GitPython, which MLflow imports, is silent on a machine without git"),
}


def test_each_tool_is_told_to_send_nothing_home():
    told = {name: value for name, (value, _) in WANTED.items()}
    assert told == services.NO_PHONE_HOME


def test_every_service_companion_and_command_gets_all_of_it(tmp_path):
    found = settings.load({"WEIR_HOME": str(tmp_path), "WEIR_PORT_BASE": "30000"})
    environments = {s.name: s.command.env for s in services.build(found) if s.command.argv[0] == sys.executable}
    environments |= {name: command.env for name, command in services.companions(found).items()} | {"a command": services.environment(found)}
    assert {"ingest", "dashboard", "clickhouse", "quality", "a command"} <= set(environments)
    lacking = {who: sorted(services.NO_PHONE_HOME.items() - env.items()) for who, env in environments.items()}
    assert {who: missing for who, missing in lacking.items() if missing} == {}
