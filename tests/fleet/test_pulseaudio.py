"""Role pulseaudio on a simulated host without a sound card; what stands for one are null sinks with other names."""

import json
from collections.abc import Callable
from typing import Any

import pytest

ROLE = ["pulseaudio"]
SOUND = "/opt/lefleet/bin/lefleet-sound"
SPEAKER = "alsa_output.usb-Fake_Speaker-00.analog-stereo"
SCREEN = "alsa_output.platform-3510000.hda.hdmi-stereo"
CARDS = {
    "pulseaudio_modules": [
        f"module-null-sink sink_name={SCREEN} sink_properties=device.description=Screen",
        f"module-null-sink sink_name={SPEAKER} sink_properties=device.description=Fake_Speaker",
    ]
}


def as_user(number: int, words: str) -> str:
    """A client of the sound server as the agent's container has it, or somebody else's."""
    server = "PULSE_SERVER=unix:/run/lefleet-pulse/native HOME=/tmp PULSE_COOKIE=/dev/null"
    return f"env {server} setpriv --reuid={number} --regid={number} --clear-groups {words}"


def status(host: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.run(f"{SOUND} status").stdout)
    return told


def sink(host: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in status(host)["sinks"] if each["name"] == name)
    return found


@pytest.fixture(scope="module")
def bare(fleet: Any) -> Any:
    return fleet.host("pulse-1", kind="server")


@pytest.fixture(scope="module")
def dry(bare: Any, play: Callable[..., Any]) -> tuple[Any, str]:
    """The very first run: a dry one, and what lay in the folders afterwards."""
    ran = play(ROLE, [bare], check=True, diff=True)
    return ran, bare.run(
        "ls /etc/lefleet /opt/lefleet /etc/systemd/user; getent passwd lefleet-pulse", check=False
    ).stdout


@pytest.fixture(scope="module")
def host(bare: Any, dry: Any, play: Callable[..., Any]) -> Any:
    first = play(ROLE, [bare])
    assert first.rc == 0
    assert "has no sound card, so nothing is heard" in " ".join(first.output.split())
    return bare


def test_a_dry_run_on_a_bare_host_lists_what_it_would_do_and_does_nothing(dry: tuple[Any, str]) -> None:
    ran, left = dry
    assert ran.rc == 0
    assert ran.changed["pulse-1"] > 5
    assert "pulse" not in left


def test_a_second_run_changes_nothing_without_mitogen_either(host: Any, play: Callable[..., Any]) -> None:
    again = play(ROLE, [host], environment={"ANSIBLE_STRATEGY": "linear"})
    assert (again.rc, again.changed) == (0, {host.name: 0})


def test_a_dry_run_of_a_finished_host_finds_no_difference(host: Any, play: Callable[..., Any]) -> None:
    dry = play(ROLE, [host], check=True, diff=True)
    assert (dry.rc, dry.changed) == (0, {host.name: 0})


def test_the_agents_user_gets_in_without_a_cookie_and_nobody_else_does(host: Any) -> None:
    info = host.run(as_user(10001, "pactl info")).stdout
    assert "User Name: lefleet-pulse" in info
    assert host.run(as_user(65534, "pactl info"), check=False).returncode != 0
    assert "Access denied" in host.run(as_user(0, "pactl info"), check=False).stderr


def test_a_client_cannot_end_it_or_make_it_reach_out(host: Any) -> None:
    host.run(as_user(10001, "pactl exit"), check=False)
    tcp = host.run(as_user(10001, "pactl load-module module-native-protocol-tcp auth-anonymous=1"), check=False)
    pipe = host.run(as_user(10001, "pactl load-module module-pipe-sink file=/etc/lefleet/pipe"), check=False)
    assert tcp.returncode != 0
    assert pipe.returncode != 0
    assert host.run("systemctl is-active lefleet-pulse").stdout.strip() == "active"


def test_a_tone_that_is_played_arrives(host: Any) -> None:
    heard = json.loads(host.run(f"{SOUND} test").stdout)
    assert heard["tone_hz"] == 440
    assert heard["amplitude"] > 0.9 * heard["played"]


def test_after_a_crash_the_socket_is_the_same_and_somebody_answers(host: Any) -> None:
    """A container has the folder mounted: a socket of another folder would be lost to it."""
    before = host.run("stat -c %i /run/lefleet-pulse /run/lefleet-pulse/native").stdout
    host.run("systemctl kill --signal=KILL lefleet-pulse")
    assert status(host)["default_sink"] == "lefleet_null"
    assert host.run("stat -c %i /run/lefleet-pulse /run/lefleet-pulse/native").stdout == before


def test_verify_fails_when_no_sample_arrives(host: Any, play: Callable[..., Any]) -> None:
    host.run("systemctl start lefleet-sound")  # waits for the one that the restart before began: it would mend this
    host.run(as_user(10001, "pactl set-sink-mute lefleet_null 1"))
    broken = host.run(f"{SOUND} test", check=False)
    assert broken.returncode == 1
    assert "did not arrive" in broken.stderr
    verify = play(ROLE, [host], tasks_from="verify")
    assert verify.rc != 0
    assert "set-sink-mute lefleet_null 0" in verify.output
    host.run(f"{SOUND} apply")


def test_verify_fails_when_another_user_has_a_sound_server(host: Any, play: Callable[..., Any]) -> None:
    host.run(
        "runuser -u operator -- env XDG_RUNTIME_DIR=/tmp/operator HOME=/home/operator sh -c "
        "'mkdir -p -m 0700 /tmp/operator; exec pulseaudio --daemonize=yes --exit-idle-time=-1'"
    )
    verify = play(ROLE, [host], tasks_from="verify")
    assert verify.rc != 0
    assert "others run a sound server too (user, process, namespace, program): operator" in " ".join(
        verify.output.split()
    )


def test_verify_fails_when_it_will_not_start_at_boot(host: Any, play: Callable[..., Any]) -> None:
    host.run("systemctl disable lefleet-pulse.socket")
    verify = play(ROLE, [host], tasks_from="verify")
    assert verify.rc != 0
    assert "must be active and enabled" in verify.output


def test_the_next_run_mends_both(host: Any, play: Callable[..., Any]) -> None:
    mended = play(ROLE, [host])
    assert (mended.rc, mended.changed) == (0, {host.name: 2})
    assert host.run("ps -C pulseaudio -o user:32=").stdout.split() == ["lefleet-pulse"]


def test_a_second_run_changes_nothing(host: Any, play: Callable[..., Any]) -> None:
    assert play(ROLE, [host]).changed == {host.name: 0}


def test_it_is_back_after_a_reboot(host: Any) -> None:
    host.reboot()
    assert status(host)["server_user"] == "lefleet-pulse"
    assert json.loads(host.run(f"{SOUND} test").stdout)["sink"] == "lefleet_null"


def test_wrong_variables_are_refused_before_anything_changes(host: Any, play: Callable[..., Any]) -> None:
    loud = play(ROLE, [host], {"pulseaudio_volume_percent": 400})
    assert loud.rc != 0
    assert "pulseaudio_volume_percent=400 must be from 0 to 150" in " ".join(loud.output.split())
    absent = play(ROLE, [host], {"pulseaudio_sink": "jabra"}, tasks_from="preflight")
    assert absent.rc != 0
    assert "has no sound card: plug it in, or set pulseaudio_sink to auto or null" in " ".join(absent.output.split())


def test_of_several_cards_auto_takes_usb_and_a_part_of_a_name_chooses_another(
    host: Any, play: Callable[..., Any]
) -> None:
    assert play(ROLE, [host], CARDS).rc == 0
    assert status(host)["default_sink"] == SPEAKER
    assert sink(host, SPEAKER)["volume_percent"] == 80
    chosen = CARDS | {"pulseaudio_sink": "screen", "pulseaudio_volume_percent": 35}
    assert play(ROLE, [host], chosen).rc == 0
    assert status(host)["default_sink"] == SCREEN
    assert sink(host, SCREEN)["volume_percent"] == 35
    assert sink(host, SPEAKER)["volume_percent"] == 80
    assert play(ROLE, [host], chosen).changed == {host.name: 0}


def test_a_wrong_sink_is_refused_with_those_that_there_are(host: Any, play: Callable[..., Any]) -> None:
    wrong = play(ROLE, [host], CARDS | {"pulseaudio_sink": "jabra"})
    assert wrong.rc != 0
    said = " ".join(wrong.output.split())
    assert (
        f"pulseaudio_sink=jabra fits none of the sinks there are: {SPEAKER} (Fake_Speaker); {SCREEN} (Screen)" in said
    )


def test_a_run_that_broke_off_before_the_restart_is_finished_by_the_next(host: Any, play: Callable[..., Any]) -> None:
    """The files are the new ones, the server that runs was made from the old ones."""
    files = "/etc/lefleet/pulse"
    assert play(ROLE, [host]).rc == 0
    host.run(f"cp -a {files} /root/old")
    assert play(ROLE, [host], CARDS).rc == 0
    host.run(f"cp -a {files} /root/new; cp -a /root/old/. {files}; systemctl restart lefleet-pulse")
    host.run(f"cp -a /root/new/. {files}")
    assert [each["name"] for each in status(host)["sinks"]] == ["lefleet_null"]
    finished = play(ROLE, [host], CARDS)
    assert finished.rc == 0
    assert finished.changed[host.name] > 0
    assert status(host)["default_sink"] == SPEAKER


def test_a_card_that_is_plugged_in_later_is_used_without_ansible(host: Any, play: Callable[..., Any]) -> None:
    """udev starts lefleet-sound.service when a card comes; no udev runs here."""
    assert play(ROLE, [host]).rc == 0
    assert status(host)["default_sink"] == "lefleet_null"
    host.run(as_user(10001, f"pactl load-module module-null-sink sink_name={SPEAKER}"))
    host.run("systemctl start lefleet-sound")
    assert status(host)["default_sink"] == SPEAKER
    assert sink(host, SPEAKER)["volume_percent"] == 80


def test_silence_may_be_asked_for(host: Any, play: Callable[..., Any]) -> None:
    assert play(ROLE, [host], CARDS | {"pulseaudio_sink": None}).rc == 0
    assert status(host)["default_sink"] == "lefleet_null"


def test_users_get_their_own_again(host: Any, play: Callable[..., Any]) -> None:
    assert host.run("readlink /etc/systemd/user/pulseaudio.socket").stdout.strip() == "/dev/null"
    free = {"pulseaudio_mask_user_instances": False}
    assert play(ROLE, [host], free).rc == 0
    assert not host.exists("/etc/systemd/user/pulseaudio.socket")
    assert not host.exists("/etc/pulse/client.conf.d/90-lefleet.conf")
    assert play(ROLE, [host], free).changed == {host.name: 0}
