"""Running dbt: what counts as a build that ended well."""
import subprocess

import pytest

from weir.errors import ServiceFailed
from weir.transform import build

NODE = {"unique_id": "model.weir.a", "status": "success", "execution_time": 0.5, "message": "OK", "adapter_response": {"query_id": "q1"}}


def _result(*statuses):
    return build.read_results({"results": [{**NODE, "status": s, "message": f"said {s}"} for s in statuses], "elapsed_time": 1.5})


def test_a_results_file_becomes_values():
    found = build.read_results({"results": [NODE, {**NODE, "message": None, "adapter_response": None}], "elapsed_time": 2})
    assert found.nodes[0] == build.NodeResult("model.weir.a", "success", 0.5, "OK", "q1")
    assert (found.nodes[1].message, found.nodes[1].query_id, found.seconds) == ("", "", 2.0)


def test_a_build_with_good_nodes_and_exit_code_0_is_returned():
    result = _result("success", "pass", "warn", "skipped")
    assert build.judge(0, "", result) is result
    assert result.count("success", "pass") == 2


@pytest.mark.parametrize("status", sorted(build.BAD_STATUSES))
def test_a_bad_node_is_named_with_what_it_said(status):
    with pytest.raises(ServiceFailed, match=f"model.weir.a failed: said {status}"):
        build.judge(1, "noise", _result("success", status))


def test_an_exit_code_that_no_node_explains_is_an_error():
    with pytest.raises(ServiceFailed, match="exit code 2, though no node failed: first the hook broke"):
        build.judge(2, "first\nthe hook broke\n\n", _result("success"))


@pytest.mark.parametrize(("output", "said"), [("", "no output"), ("a\n b \n", "a b")])
def test_a_run_without_results_says_what_dbt_said_last(output, said):
    with pytest.raises(ServiceFailed, match=f"did not run: {said}"):
        build.judge(2, output, None)


def test_a_run_past_its_time_is_a_failed_service(tmp_path, monkeypatch):
    def never_ends(command, **options):
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(subprocess, "run", never_ends)
    with pytest.raises(ServiceFailed, match="did not end within 600 s"):
        build.build({"WEIR_HOME": str(tmp_path)})


def test_an_older_runs_results_are_never_read_as_this_runs(tmp_path, monkeypatch):
    target = tmp_path / "dbt" / "target"
    target.mkdir(parents=True)
    (target / "run_results.json").write_text('{"results": [], "elapsed_time": 1}')
    monkeypatch.setattr(subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 0, "", "broke before it began"))
    with pytest.raises(ServiceFailed, match="did not run: broke before it began"):
        build.build({"WEIR_HOME": str(tmp_path)})
