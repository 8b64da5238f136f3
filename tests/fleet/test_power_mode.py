"""Role power_mode on a simulated Jetson: modes by name, clocks at boot, reboots only where allowed."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

STATUS = "/var/lib/nvpmodel/status"
LOG = "/var/log/stand-ins.log"
UNIT = "lefleet-clocks.service"
# An Orin Nano without `Super`: other names, other numbers.
PLAIN_BOARD = """
< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
< POWER_MODEL ID=1 NAME=7W >
CPU_ONLINE CORE_0 1
# mandatory section to configure the default mode
< PM_CONFIG DEFAULT=0 >
"""

Play = Callable[..., Any]


def wanted(mode: str, **more: Any) -> dict[str, Any]:
    return {"power_mode_name": mode, **more}


def said_by(done: Any) -> str:
    """A run's output without its line breaks."""
    return " ".join(done.output.split())


def mode(host: Any) -> str:
    return str(host.run("nvpmodel -q").stdout.split()[3])


def boot(host: Any) -> str:
    return str(host.read("/proc/sys/kernel/random/boot_id"))


def calls(host: Any, program: str) -> int:
    return sum(line.startswith(program) for line in host.read(LOG).splitlines())


@pytest.fixture(scope="module")
def bare(fleet: Any) -> Any:
    host = fleet.host("power")
    host.run(f"touch {LOG}")
    return host


@pytest.fixture
def host(bare: Any, play: Play) -> Iterator[Any]:
    """The host in mode 25W with its clocks raised."""
    kept = {path: bare.read(path) for path in ("/etc/nvpmodel.conf", "/usr/sbin/nvpmodel")}
    bare.run(f"mkdir -p {STATUS.rpartition('/')[0]} && echo pmode:0001 > {STATUS}")
    assert play(["power_mode"], [bare], wanted("25W")).rc == 0
    yield bare
    for path, text in kept.items():
        bare.write(path, text)


def test_check_mode_on_a_bare_host_says_what_it_would_do_and_does_nothing(bare: Any, play: Play) -> None:
    done = play(["power_mode"], [bare], wanted("15W"), check=True, diff=True)
    assert done.rc == 0 and "Would set 15W instead of NV Power Mode: 25W" in said_by(done)
    assert "ExecStart=/usr/sbin/jetson_clocks" in done.output
    assert mode(bare) == "25W" and calls(bare, "jetson_clocks") == 0
    assert not bare.exists(f"/etc/systemd/system/{UNIT}")


def test_the_first_run_sets_the_mode_by_name_and_the_second_changes_nothing(bare: Any, play: Play) -> None:
    assert play(["power_mode"], [bare], wanted("MAXN_SUPER")).rc == 0
    assert mode(bare) == "MAXN_SUPER" and calls(bare, "jetson_clocks") > 0
    assert bare.run(f"systemctl is-enabled {UNIT}").stdout.strip() == "enabled"
    second = play(["power_mode"], [bare], wanted("MAXN_SUPER"))
    assert second.rc == 0 and second.changed["power"] == 0


def test_a_new_mode_raises_the_clocks_anew(host: Any, play: Play) -> None:
    before = calls(host, "jetson_clocks")
    done = play(["power_mode"], [host], wanted("15W"))
    assert done.rc == 0 and mode(host) == "15W"
    assert calls(host, "jetson_clocks") == before + 1


def test_the_clocks_are_raised_at_every_boot(host: Any, play: Play) -> None:
    before = calls(host, "jetson_clocks")
    host.reboot()
    assert calls(host, "jetson_clocks") == before + 1
    assert play(["power_mode"], [host], wanted("25W")).changed["power"] == 0


def test_names_are_looked_up_on_the_board(host: Any, play: Play) -> None:
    host.write("/etc/nvpmodel.conf", PLAIN_BOARD)
    refused = play(["power_mode"], [host], wanted("25W"), tasks_from="preflight")
    assert refused.rc != 0 and refused.changed["power"] == 0
    assert "power_mode_name=25W is no mode of power; /etc/nvpmodel.conf has 15W, 7W" in said_by(refused)
    host.run(f"echo pmode:0000 > {STATUS}")
    assert play(["power_mode"], [host], wanted("15W")).changed["power"] == 0


def test_a_reboot_that_is_not_allowed_is_said_and_not_done(host: Any, play: Play) -> None:
    before = boot(host)
    for _ in range(2):
        done = play(["power_mode"], [host], wanted("7W"))
        assert done.rc == 0 and done.changed["power"] == 0
        assert "7W needs a reboot, and power_mode_reboot=false" in said_by(done)
    assert boot(host) == before and mode(host) == "25W"


@pytest.mark.parametrize("strategy", ["mitogen_linear", "linear"])
def test_a_reboot_that_is_allowed_is_waited_for(host: Any, play: Play, strategy: str) -> None:
    before, clocks = boot(host), calls(host, "jetson_clocks")
    environment = {"ANSIBLE_STRATEGY": strategy}
    done = play(["power_mode"], [host], wanted("7W", power_mode_reboot=True), environment=environment)
    assert done.rc == 0 and done.unreachable["power"] == 0
    assert boot(host) != before and mode(host) == "7W"
    assert calls(host, "jetson_clocks") > clocks
    again = boot(host)
    done = play(["power_mode"], [host], wanted("7W", power_mode_reboot=True), environment=environment)
    assert done.changed["power"] == 0 and boot(host) == again


def test_a_mode_that_needs_no_reboot_gets_none_although_allowed(host: Any, play: Play) -> None:
    before = boot(host)
    assert play(["power_mode"], [host], wanted("15W", power_mode_reboot=True)).rc == 0
    assert boot(host) == before and mode(host) == "15W"


def test_a_reboot_that_did_not_help_is_an_error(host: Any, play: Play) -> None:
    deaf = host.read("/usr/sbin/nvpmodel").replace("    store(mode)\n", "")
    host.write("/usr/sbin/nvpmodel", deaf)
    done = play(["power_mode"], [host], wanted("7W", power_mode_reboot=True))
    assert done.rc != 0
    assert "power_mode_name=7W, but power came back with NV Power Mode: 25W" in said_by(done)


def test_an_error_of_nvpmodel_is_one_of_the_run(host: Any, play: Play) -> None:
    broken = host.read("/usr/sbin/nvpmodel").replace("    store(mode)\n", '    sys.exit("NVPM ERROR: no such file")\n')
    host.write("/usr/sbin/nvpmodel", broken)
    done = play(["power_mode"], [host], wanted("15W"))
    assert done.rc != 0 and "NVPM ERROR: no such file" in said_by(done)


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        ("nvpmodel -m 0", "power_mode_name=25W, but nvpmodel says NV Power Mode: 15W"),
        (f"systemctl stop {UNIT}", "ActiveState=inactive"),
        (f"systemctl disable {UNIT}", "UnitFileState=disabled"),
    ],
)
def test_verify_finds_what_is_broken_and_the_role_mends_it(host: Any, play: Play, breaks: str, said: str) -> None:
    host.run(breaks)
    done = play(["power_mode"], [host], wanted("25W"), tags=["power_mode_verify"])
    assert done.rc != 0 and said in said_by(done)
    assert play(["power_mode"], [host], wanted("25W")).rc == 0
    assert play(["power_mode"], [host], wanted("25W"), tags=["power_mode_verify"]).rc == 0


def test_clocks_can_be_left_to_the_governors(host: Any, play: Play) -> None:
    done = play(["power_mode"], [host], wanted("25W", power_mode_clocks=False))
    assert done.rc == 0 and not host.exists(f"/etc/systemd/system/{UNIT}")
    assert play(["power_mode"], [host], wanted("25W", power_mode_clocks=False)).changed["power"] == 0


def test_a_host_without_nvpmodel_is_passed_over_or_refused_as_asked(host: Any, play: Play) -> None:
    host.run("mv /usr/sbin/nvpmodel /root/nvpmodel")
    try:
        done = play(["power_mode"], [host], wanted("25W"))
        assert done.rc == 0 and done.changed["power"] == 0 and "power has no nvpmodel" in said_by(done)
        done = play(["power_mode"], [host], wanted("25W", power_mode_required=True))
        assert done.rc != 0 and "power_mode_required=true, but power lacks nvpmodel" in said_by(done)
    finally:
        host.run("mv /root/nvpmodel /usr/sbin/nvpmodel")
