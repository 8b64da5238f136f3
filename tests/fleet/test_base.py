"""Role base on a simulated Jetson: refusals, packages, time, no desktop, operators, and SSH that locks nobody out."""

import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SETTINGS = "/etc/ssh/sshd_config.d/01-lefleet.conf"
KEYS = "/home/operator/.ssh/authorized_keys"
SHARED = {"base_jetson_distributions": ["Debian 12"]}
SSH = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes"]

Play = Callable[..., Any]


def said_by(done: Any) -> str:
    """A run's output without its line breaks."""
    return " ".join(done.output.split())


def sshd(host: Any) -> list[str]:
    """What sshd would do with its files as they are, in the words of `sshd -T`."""
    return str(host.run("sshd -T").stdout).splitlines()


def log_in(host: Any, key: Path, name: str, words: str) -> subprocess.CompletedProcess[str]:
    command = ["ssh", "-i", str(key), "-o", "IdentitiesOnly=yes", *SSH, f"{name}@{host.address}", words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)


@pytest.fixture(scope="module")
def bare(fleet: Any) -> Any:
    return fleet.host("base")


@pytest.fixture
def host(bare: Any, play: Play) -> Any:
    assert play(["base"], [bare], SHARED).rc == 0
    return bare


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two key pairs of an operator named ana; the public parts lie beside them."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("first", "second"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"ana-{name}", "-f", str(folder / name)]
        subprocess.run(words, check=True)
    return {name: folder / name for name in ("first", "second")}


def public(key: Path) -> str:
    return key.with_suffix(".pub").read_text().strip()


def test_check_mode_on_a_bare_host_says_what_it_would_do_and_does_nothing(
    bare: Any, play: Play, keys: dict[str, Path]
) -> None:
    ana = {"name": "ana", "keys": [public(keys["first"])], "groups": ["robotics"], "sudo": True}
    more = {"base_operators": [ana], "base_ntp_servers": ["192.0.2.7"], "base_hostname": "robot-7"}
    done = play(["base"], [bare], {**SHARED, **more}, check=True, diff=True)
    assert done.rc == 0 and done.changed["base"] > 5
    assert "chrony" in done.output and "+PasswordAuthentication no" in done.output
    assert not bare.exists("/etc/lefleet") and not bare.exists(SETTINGS) and not bare.exists("/home/ana")
    assert bare.run("systemctl is-active gdm3").stdout.strip() == "active"
    assert bare.read("/etc/hostname").strip() == "base"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"base_jetson_distributions": ["Ubuntu 22.04"]}, "supported on a Jetson is base_jetson_distributions="),
        ({"base_l4t_majors": [35]}, "base runs L4T R36.4.3; supported is base_l4t_majors=[35]"),
        (
            {"base_jetson": "never", "base_distributions": ["Debian 13"]},
            "on this host is base_distributions=",
        ),
        ({"base_operators": [{"name": "Ana", "keys": ["ssh-ed25519 AAAA x"]}]}, "`Ana` needs a name of small letters"),
        ({"base_operators": [{"name": "ana", "keys": ["-----BEGIN"]}]}, "keys that are public ones"),
        ({"base_operators": [{"name": "ana", "keys": []}]}, "keys that are public ones"),
        ({"base_operators_removed": ["operator"]}, "nor may root or operator be in it"),
        ({"base_ssh_settings": {"PermitRootLogin": "yes"}}, "base_ssh_keys_only and base_ssh_root_login say these"),
        ({"base_journal_max_mb": 1}, "base_journal_max_mb=1 must be 16 or more"),
        ({"base_hostname": "Robot_7"}, "base_hostname=Robot_7"),
    ],
)
def test_wrong_hosts_and_variables_stop_before_anything_changes(
    bare: Any, play: Play, variables: dict[str, Any], said: str
) -> None:
    done = play(["base"], [bare], {**SHARED, **variables}, tasks_from="preflight")
    assert done.rc != 0 and done.changed["base"] == 0
    assert said in said_by(done)


def test_a_host_that_is_no_jetson_is_refused_where_one_is_required(bare: Any, play: Play) -> None:
    bare.run("mv /etc/nv_tegra_release /root/")
    try:
        done = play(["base"], [bare], {**SHARED, "base_jetson": "require"}, tasks_from="preflight")
        assert done.rc != 0 and "base_jetson=require, but base is no Jetson" in said_by(done)
        assert play(["base"], [bare], SHARED, tasks_from="preflight").rc == 0
    finally:
        bare.run("mv /root/nv_tegra_release /etc/")


def test_the_first_run_makes_it_fit_and_the_second_changes_nothing(bare: Any, play: Play) -> None:
    assert play(["base"], [bare], SHARED).rc == 0
    assert bare.run("systemctl get-default").stdout.strip() == "multi-user.target"
    assert bare.run("systemctl is-active gdm3", check=False).stdout.strip() == "inactive"
    assert bare.run("systemctl is-active chrony").stdout.strip() == "active"
    assert bare.run("stat -c %a /etc/lefleet /opt/lefleet").stdout.split() == ["755", "755"]
    assert {"passwordauthentication no", "permitrootlogin no", "x11forwarding no"} <= set(sshd(bare))
    assert bare.run("systemctl list-timers lefleet-ssh-undo.timer --no-legend").stdout == ""
    for strategy in ("mitogen_linear", "linear"):
        again = play(["base"], [bare], SHARED, environment={"ANSIBLE_STRATEGY": strategy})
        assert again.rc == 0 and again.changed["base"] == 0


def test_without_a_desktop_it_boots(host: Any, play: Play) -> None:
    host.reboot()
    assert host.run("systemctl is-active gdm3", check=False).stdout.strip() == "inactive"
    assert play(["base"], [host], SHARED).changed["base"] == 0


def test_operators_come_change_keys_and_go(host: Any, play: Play, keys: dict[str, Path]) -> None:
    first, second = keys["first"], keys["second"]
    ana = {"name": "ana", "keys": [public(first)], "groups": ["dialout", "robotics"], "sudo": True}
    variables = {**SHARED, "base_operators": [ana], "base_operators_keys_exclusive": True}
    assert play(["base"], [host], variables).rc == 0
    assert log_in(host, first, "ana", "sudo --non-interactive id --user").stdout.strip() == "0"
    assert {"dialout", "robotics"} <= set(log_in(host, first, "ana", "id --groups --name").stdout.split())
    assert play(["base"], [host], variables).changed["base"] == 0

    ana.update(keys=[public(second)], sudo=False)
    assert play(["base"], [host], variables).rc == 0
    assert log_in(host, first, "ana", "true").returncode == 255
    assert log_in(host, second, "ana", "sudo --non-interactive true").returncode == 1

    gone = {**SHARED, "base_operators_removed": ["ana"]}
    assert play(["base"], [host], gone).rc == 0
    assert log_in(host, second, "ana", "true").returncode == 255
    assert play(["base"], [host], gone).changed["base"] == 0


def test_keys_of_ansibles_own_account_are_never_taken_away(host: Any, play: Play, keys: dict[str, Path]) -> None:
    before = host.read(KEYS)
    operator = {"name": "operator", "keys": [public(keys["first"])]}
    variables = {**SHARED, "base_operators": [operator], "base_operators_keys_exclusive": True}
    assert play(["base"], [host], variables).rc == 0
    assert host.read(KEYS).startswith(before.strip())
    assert log_in(host, keys["first"], "operator", "true").returncode == 0


def test_an_account_without_a_key_is_not_locked_out(host: Any, play: Play) -> None:
    """Ansible comes with a password: it stays open until that account has a key."""
    key = host.read(KEYS).splitlines()[0]
    host.run(f"rm {SETTINGS}; systemctl reload ssh; echo operator:secret | chpasswd; mv {KEYS} /root/keys")
    word = {"ansible_password": "secret", "ansible_ssh_private_key_file": "/nonexistent"}
    variables = {**SHARED, **word, "ansible_ssh_common_args": "-o PubkeyAuthentication=no " + " ".join(SSH[:4])}
    done = play(["base"], [host], variables)
    assert done.rc != 0 and "would lock operator out" in said_by(done)
    assert "passwordauthentication yes" in sshd(host)
    assert play(["base"], [host], {**variables, "base_ssh_keys_only": False}).rc == 0
    assert "passwordauthentication yes" in sshd(host)
    # The role itself brings the key, and may then close the door to passwords.
    operator = {"name": "operator", "keys": [key]}
    assert play(["base"], [host], {**SHARED, "base_operators": [operator]}, tags=["base_operators"]).unreachable["base"]
    done = play(["base"], [host], {**variables, "base_operators": [operator]}, tags=["base_operators"])
    assert done.rc == 0
    assert play(["base"], [host], SHARED).rc == 0
    assert "passwordauthentication no" in sshd(host)
    host.run("passwd --lock operator")


def test_root_is_not_locked_out_while_ansible_comes_as_root(host: Any, play: Play) -> None:
    host.run(f"rm {SETTINGS}; systemctl reload ssh; install -D -m 0600 {KEYS} /root/.ssh/authorized_keys")
    done = play(["base"], [host], {**SHARED, "ansible_user": "root"})
    assert done.rc != 0 and "would lock Ansible out: it is connected as root" in said_by(done)
    assert "permitrootlogin without-password" in sshd(host)
    done = play(["base"], [host], {**SHARED, "ansible_user": "root", "base_ssh_root_login": "key"})
    assert done.rc == 0
    assert play(["base"], [host], SHARED).rc == 0
    assert "permitrootlogin no" in sshd(host)


@pytest.mark.parametrize("strategy", ["mitogen_linear", "linear"])
def test_settings_that_lock_everybody_out_are_taken_back(host: Any, play: Play, strategy: str) -> None:
    before = host.read(SETTINGS)
    variables = {**SHARED, "base_ssh_undo_s": 30, "base_ssh_settings": {"AllowUsers": "nobody"}}
    done = play(["base"], [host], variables, environment={"ANSIBLE_STRATEGY": strategy})
    assert done.rc != 0 and "sshd no longer lets operator into base" in said_by(done)
    assert "not listed in AllowUsers" in host.run("journalctl --unit ssh").stdout, "they were never in force"
    end = time.monotonic() + 60
    while host.ssh("true", check=False).returncode != 0:
        assert time.monotonic() < end, host.run("systemctl list-timers; journalctl -u lefleet-ssh-undo").stdout
        time.sleep(1)
    assert host.read(SETTINGS) == before and not host.exists(f"{SETTINGS}.before")
    assert play(["base"], [host], SHARED).changed["base"] == 0


def test_settings_of_a_run_that_was_cut_off_are_proven_by_the_next(host: Any, play: Play) -> None:
    """Else the undo that it left behind would take them back after a run that called them good."""
    host.run(f"cp /dev/null {SETTINGS}.before; systemd-run --unit=lefleet-ssh-undo --on-active=120 rm {SETTINGS}")
    assert play(["base"], [host], SHARED).rc == 0
    assert not host.exists(f"{SETTINGS}.before")
    assert host.run("systemctl list-timers lefleet-ssh-undo.timer --no-legend").stdout == ""
    assert play(["base"], [host], SHARED).changed["base"] == 0


def test_settings_that_sshd_does_not_understand_never_reach_it(host: Any, play: Play) -> None:
    before = host.read(SETTINGS)
    done = play(["base"], [host], {**SHARED, "base_ssh_settings": {"NoSuchThing": "yes"}})
    assert done.rc != 0 and "NoSuchThing" in done.output
    assert host.read(SETTINGS) == before and host.ssh("true").returncode == 0
    assert play(["base"], [host], SHARED).changed["base"] == 0


def test_time_servers_are_those_named_and_no_others(host: Any, play: Play) -> None:
    named = {**SHARED, "base_ntp_servers": ["192.0.2.7", "192.0.2.8"]}
    assert play(["base"], [host], named).rc == 0
    sources = host.run("chronyc -N -c sources").stdout.splitlines()
    assert {line.split(",")[2] for line in sources} == {"192.0.2.7", "192.0.2.8"}
    assert play(["base"], [host], named).changed["base"] == 0
    assert play(["base"], [host], SHARED).rc == 0
    assert "\npool " in host.read("/etc/chrony/chrony.conf")
    assert play(["base"], [host], SHARED).changed["base"] == 0


def test_the_host_gets_a_name_only_if_asked(host: Any, play: Play) -> None:
    assert host.read("/etc/hostname").strip() == "base"
    named = {**SHARED, "base_hostname": "robot-7"}
    assert play(["base"], [host], named).rc == 0
    assert host.run("hostname").stdout.strip() == "robot-7" and "127.0.1.1 robot-7" in host.read("/etc/hosts")
    assert play(["base"], [host], named).changed["base"] == 0
    assert play(["base"], [host], {**SHARED, "base_hostname": "base"}).rc == 0


@pytest.mark.parametrize(
    ("breaks", "mends", "said"),
    [
        ("systemctl stop chrony", "true", "chrony.service does not run"),
        ("systemctl start gdm3", "true", "a log-in screen runs"),
        ("systemctl set-default graphical.target", "true", "boots to graphical.target"),
        (
            "printf 'PasswordAuthentication yes\\n' > /etc/ssh/sshd_config.d/00-mine.conf",
            "rm /etc/ssh/sshd_config.d/00-mine.conf",
            "Missing: passwordauthentication no",
        ),
        (
            "printf '[Journal]\\nSystemMaxUse=9G\\n' > /etc/systemd/journald.conf.d/99-mine.conf",
            "rm /etc/systemd/journald.conf.d/99-mine.conf",
            "another file sets ['SystemMaxUse=500M', 'SystemMaxUse=9G']",
        ),
    ],
)
def test_verify_finds_what_is_broken(host: Any, play: Play, breaks: str, mends: str, said: str) -> None:
    host.run(breaks)
    done = play(["base"], [host], SHARED, tags=["base_verify"])
    assert done.rc != 0 and said in said_by(done)
    host.run(mends)
    assert play(["base"], [host], SHARED).rc == 0
    assert play(["base"], [host], SHARED, tags=["base_verify"]).rc == 0


def test_verify_misses_a_key_that_is_gone(host: Any, play: Play, keys: dict[str, Path]) -> None:
    variables = {**SHARED, "base_operators": [{"name": "ana", "keys": [public(keys["first"])]}]}
    assert play(["base"], [host], variables).rc == 0
    host.run("rm /home/ana/.ssh/authorized_keys")
    assert play(["base"], [host], variables, tags=["base_verify"]).rc != 0
    assert play(["base"], [host], variables).rc == 0
