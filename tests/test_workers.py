"""The pool of processes: order, failure, interruption, resumption."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from rlbook_utils.core import workers


@pytest.fixture(autouse=True)
def nobody_left():
    yield
    workers.stop()


def test_answers_come_in_the_order_of_the_jobs_whatever_the_count():
    jobs = [(k, 3) for k in range(7)]
    here = workers.run(divmod, jobs, workers=1)
    assert workers.run(divmod, jobs, workers=2) == here == [divmod(*j) for j in jobs]


def test_processes_stay_and_are_hired_again_when_one_died():
    first = set(workers.run(os.getpid, [()] * 8))
    again = set(workers.run(os.getpid, [()] * 8))
    assert first and again <= first | again and len(first | again) <= 2
    assert os.getpid() not in first
    workers._alive[0][0].kill()
    workers._alive[0][0].join()
    assert workers.run(divmod, [(7, 2)] * 4) == [(3, 1)] * 4


def test_a_failing_job_is_named_with_its_traceback():
    with pytest.raises(RuntimeError, match=r"(?s)job 1 failed:.*ZeroDivisionError"):
        workers.run(divmod, [(1, 1), (1, 0), (1, 1)])
    assert workers.run(divmod, [(7, 2)] * 2) == [(3, 1)] * 2


def test_a_process_that_dies_is_an_error_and_not_a_wait_for_ever():
    with pytest.raises(RuntimeError, match="a process died at job"):
        workers.run(os._exit, [(1,), (1,)])


def test_a_count_below_one_is_refused():
    with pytest.raises(ValueError, match="workers is 0: it must be at least 1"):
        workers.run(divmod, [(1, 1)], workers=0)


def test_a_log_is_resumed_and_a_torn_line_is_done_again(tmp_path):
    log = tmp_path / "study.part"
    assert workers.run(divmod, [(5, 2), (9, 4)], workers=1, log=log)
    lines = log.read_text().split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [[0, [2, 1]], [1, [2, 1]]]
    log.write_text(json.dumps([0, "kept"]) + "\n" + '[1, "to')
    found = workers.run(divmod, [(5, 2), (9, 4)], workers=1, log=log)
    assert found == ["kept", (2, 1)]


@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_an_interrupted_parent_leaves_no_process_behind(tmp_path):
    # A shell's background jobs ignore SIGINT, and so would the script.
    code = """
        import signal, time
        from rlbook_utils.core import workers
        if __name__ == "__main__":
            signal.signal(signal.SIGINT, signal.default_int_handler)
            workers.run(divmod, [(1, 1)] * 4)
            print(*(process.pid for process, _ in workers._alive), flush=True)
            try:
                workers.run(time.sleep, [(60,), (60,)])
            except KeyboardInterrupt:
                print("stopped", len(workers._alive), flush=True)
    """
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(code))
    script = subprocess.Popen(
        [sys.executable, str(path)],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    pids = [int(pid) for pid in script.stdout.readline().split()]
    assert len(pids) == 2
    time.sleep(0.5)
    os.killpg(script.pid, signal.SIGINT)
    assert script.communicate(timeout=20)[0].strip() == "stopped 0"
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
