"""Role robot_devices on a simulated host with a faked /sys, and its udev rules in real udevs."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fleet as simulated
import pytest

ROLE = ["robot_devices"]
FAKE = "/srv/fake"
PROGRAM = "/opt/lefleet/bin/lefleet-devices"
METRICS = "/var/lib/prometheus/node-exporter/lefleet_devices.prom"
LEFT, RIGHT, SPARE = "5A46000001", "5A46000002", "5A46000009"
FRONT = "platform-3610000.usb-usb-0:2.3:1.0-video-index0"
WRIST = "platform-3610000.usb-usb-0:2.4:1.0-video-index0"
JOINTS = {
    "shoulder_pan": {"id": 1, "drive_mode": 0, "homing_offset": -120, "range_min": 700, "range_max": 3400},
    "gripper": {"id": 6, "drive_mode": 0, "homing_offset": 12, "range_min": 2000, "range_max": 3500},
}

# As v4l2-ctl of Debian 12 talks; what it knows of a camera is in the file that stands for it.
V4L2_CTL = """#!/usr/bin/python3
import json, re, sys
path = next(word.split("=", 1)[1] for word in sys.argv if word.startswith("--device="))
camera = json.load(open(path))
for word in sys.argv[1:]:
    if word == "--list-formats":
        print("ioctl: VIDIOC_ENUM_FMT\\n\\tType: Video Capture\\n")
        print("\\n".join(f"\\t[{n}]: '{name}' (its name)" for n, name in enumerate(camera["offers"])))
    elif word == "--get-fmt-video":
        print(f"Format Video Capture:\\n\\tWidth/Height      : {camera['width']}/{camera['height']}")
        print(f"\\tPixel Format      : '{camera['format']}' (its name)\\n\\tField             : None")
    elif word == "--get-parm":
        print("Streaming Parameters Video Capture:\\n\\tCapabilities     : timeperframe")
        print(f"\\tFrames per second: {camera['fps']}.000 ({camera['fps']}/1)\\n\\tRead buffers     : 0")
    elif camera["busy"]:
        sys.exit("VIDIOC_S_FMT: failed: Device or resource busy")
    elif word.startswith("--set-fmt-video="):
        asked = dict(each.split("=") for each in word.split("=", 1)[1].split(","))
        camera |= {"width": int(asked["width"]), "height": int(asked["height"]), "format": asked["pixelformat"]}
    elif word.startswith("--set-parm="):
        camera["fps"] = int(word.split("=")[1])
json.dump(camera, open(path, "w"))
"""


class Sys:
    """A /sys as the kernel lays it out, as far as the role and udev look at it."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._bus = "platform/3610000.usb/usb1/1-2"
        self._add("platform/3610000.usb", "bus/platform", "DRIVER=tegra-xusb")
        self._add("platform/3610000.usb/usb1", "bus/usb", "DEVTYPE=usb_device\nDRIVER=usb")
        self._add(self._bus, "bus/usb", "DEVTYPE=usb_device\nDRIVER=usb", idVendor="0bda", idProduct="5420")

    def arm(self, port: str, serial: str, number: int) -> None:
        tty = f"{self._usb(port, 'cdc_acm', idVendor='1a86', idProduct='55d3', serial=serial)}/tty/ttyACM{number}"
        self._add(tty, "class/tty", f"MAJOR=166\nMINOR={number}\nDEVNAME=ttyACM{number}", dev=f"166:{number}")

    def camera(self, port: str, first: int) -> None:
        """UVC cameras come with a second device, for metadata."""
        function = self._usb(port, "uvcvideo", idVendor="046d", idProduct="0825")
        for index, number in enumerate((first, first + 1)):
            uevent = f"MAJOR=81\nMINOR={number}\nDEVNAME=video{number}"
            video = f"{function}/video4linux/video{number}"
            self._add(video, "class/video4linux", uevent, dev=f"81:{number}", index=str(index))

    def _usb(self, port: str, driver: str, **attributes: str) -> str:
        device = f"{self._bus}/1-{port}"
        self._add(device, "bus/usb", "DEVTYPE=usb_device\nDRIVER=usb", **attributes)
        self._add(f"{device}/1-{port}:1.0", "bus/usb", f"DEVTYPE=usb_interface\nDRIVER={driver}")
        return f"{device}/1-{port}:1.0"

    def _add(self, path: str, subsystem: str, uevent: str, **attributes: str) -> None:
        device, home = self._root / "devices" / path, self._root / subsystem
        members = home / "devices" if subsystem.startswith("bus/") else home
        for folder in (device, members):
            folder.mkdir(parents=True, exist_ok=True)
        (device / "uevent").write_text(f"{uevent}\n")
        for name, value in attributes.items():
            (device / name).write_text(f"{value}\n")
        (device / "subsystem").symlink_to(os.path.relpath(home, device))
        (members / device.name).symlink_to(os.path.relpath(device, members))


@pytest.fixture(scope="module")
def sys_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("fake") / "sys"
    tree = Sys(root)
    tree.arm("2.1", LEFT, 0)
    tree.arm("2.2", SPARE, 1)
    tree.camera("2.3", 0)
    return root


@pytest.fixture(scope="module")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("calibration") / "robot.json"
    path.write_text(json.dumps(JOINTS, indent=4))
    return path


@pytest.fixture(scope="module")
def variables(calibration: Path) -> dict[str, Any]:
    """A robot with two arms and two cameras, of which one each is plugged in."""
    size = {"width": 640, "height": 480, "fps": 30}
    return {
        "robot_devices_usb_dir": f"{FAKE}/sys/bus/usb/devices",
        "robot_devices_by_path_dir": f"{FAKE}/by-path",
        "robot_devices_arms": [{"name": "left", "serial": LEFT}, {"name": "right", "serial": RIGHT}],
        "robot_devices_cameras": [
            {"name": "front", "path": f"/dev/v4l/by-path/{FRONT}", **size},
            {"name": "wrist", "path": WRIST.removesuffix("-video-index0"), **size},
        ],
        "robot_devices_calibrations": [
            {"id": "devices-1", "file": str(calibration)},
            {"id": "devices-1", "type": "so_leader", "file": str(calibration)},
        ],
        "robot_devices_users": ["operator"],
    }


@pytest.fixture(scope="module")
def bare(fleet: Any, sys_dir: Path) -> Any:
    made = fleet.host("devices-1", kind="server")
    made.run(f"mkdir -p {FAKE}/by-path && ln -s ../video0 '{FAKE}/by-path/{FRONT}'")
    simulated.run("docker", "cp", sys_dir, f"{made.container}:{FAKE}/sys")
    made.write("/usr/local/bin/v4l2-ctl", V4L2_CTL)
    made.run("chmod 0755 /usr/local/bin/v4l2-ctl")
    camera(made)
    return made


def camera(host: Any, **values: Any) -> None:
    """A camera as it is when it was just plugged in."""
    fresh = {"format": "YUYV", "width": 640, "height": 360, "fps": 15, "offers": ["YUYV", "MJPG"], "busy": False}
    host.write(f"{FAKE}/video0", json.dumps(fresh | values))


def seen(host: Any) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(host.read(f"{FAKE}/video0"))
    return {name: told[name] for name in ("format", "width", "height", "fps")}


MJPG = {"format": "MJPG", "width": 640, "height": 480, "fps": 30}


@pytest.fixture(scope="module")
def dry(bare: Any, play: Callable[..., Any], variables: dict[str, Any]) -> tuple[Any, str]:
    """The very first run: a dry one, and what lay in the folders afterwards."""
    ran = play(ROLE, [bare], variables, check=True, diff=True)
    return ran, bare.run("ls /etc/lefleet /opt/lefleet /etc/udev; ls /etc/systemd/system", check=False).stdout


@pytest.fixture(scope="module")
def first(bare: Any, dry: Any, play: Callable[..., Any], variables: dict[str, Any]) -> Any:
    return play(ROLE, [bare], variables)


@pytest.fixture(scope="module")
def host(bare: Any, first: Any) -> Any:
    assert first.rc == 0
    return bare


def words(played: Any) -> str:
    """Its output without line breaks."""
    return " ".join(played.output.split())


def test_a_dry_run_on_a_bare_host_lists_what_it_would_do_and_does_nothing(dry: tuple[Any, str]) -> None:
    ran, left = dry
    assert ran.rc == 0
    assert ran.changed["devices-1"] > 5
    assert f"present arm left (serial {LEFT}" in words(ran)
    assert "lefleet" not in left


def test_the_report_names_what_is_there_what_is_missing_and_what_is_to_spare(host: Any, first: Any) -> None:
    said = words(first)
    assert f"present arm left (serial {LEFT}, 1a86:55d3): /dev/ttyACM0 as /dev/lefleet/left" in said
    assert f"MISSING arm right (serial {RIGHT}, 1a86:55d3)" in said
    assert "present camera front" in said
    assert "MISSING camera wrist" in said
    assert f"spare adapter with serial {SPARE}: ttyACM1, USB port 1-2.2" in said


def test_a_second_run_changes_nothing(host: Any, play: Callable[..., Any], variables: dict[str, Any]) -> None:
    again = play(ROLE, [host], variables)
    assert (again.rc, again.changed) == (0, {host.name: 0})


def test_a_run_without_mitogen_changes_nothing_either(
    host: Any, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    again = play(ROLE, [host], variables, environment={"ANSIBLE_STRATEGY": "linear"})
    assert (again.rc, again.changed) == (0, {host.name: 0})


def test_a_dry_run_of_a_finished_host_finds_no_difference(
    host: Any, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    dry = play(ROLE, [host], variables, check=True, diff=True)
    assert (dry.rc, dry.changed) == (0, {host.name: 0})


def test_people_get_into_the_groups_of_the_devices(host: Any) -> None:
    assert {"dialout", "video"} <= set(host.run("id --name --groups operator").stdout.split())


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_udev_understands_the_rules_and_they_fit_the_right_devices(host: Any, sys_dir: Path, suite: str) -> None:
    """Real udevs (252 and 257) with their own rules and ours, on the faked /sys."""
    rules = sys_dir.parent / "90-lefleet-devices.rules"
    rules.write_text(host.read("/etc/udev/rules.d/90-lefleet-devices.rules"))
    mounts = [f"--volume={sys_dir}:/sys:ro", f"--volume={rules}:/etc/udev/rules.d/{rules.name}:ro"]
    image = simulated.bootstrap(suite, ["udev"])

    def udevadm(*words: str) -> str:
        command = ["docker", "run", "--rm", "--env=SYSTEMD_DEVICE_VERIFY_SYSFS=0", *mounts, image, "udevadm", *words]
        done = simulated.run(*command)
        return done.stdout + done.stderr

    def test(device: str) -> tuple[set[str], str]:
        told = udevadm("test", "--action=add", f"/sys/class/{device}")
        links = re.search(r"(?m)^\s*DEVLINKS=(.*)$", told)
        return set(links[1].split() if links else []), told

    if suite == "trixie":
        assert "Fail:    0" in udevadm("verify", f"/etc/udev/rules.d/{rules.name}")
    links, told = test("tty/ttyACM0")
    assert "/dev/lefleet/left" in links
    assert f"{rules.name}:3 GROUP 20" in told  # dialout
    assert f"{rules.name}:3 MODE 0660" in told
    assert "ID_MM_DEVICE_IGNORE=1" in told
    links, told = test("video4linux/video0")
    assert {"/dev/lefleet/camera-front", f"/dev/v4l/by-path/{FRONT}"} <= links
    assert re.search(r"(?m)^\s*SYSTEMD_WANTS=.*lefleet-camera@front\.service", told)
    assert f"{rules.name}:5 GROUP 44" in told  # video
    for other in ("tty/ttyACM1", "video4linux/video1"):
        links, told = test(other)
        assert not [link for link in links if link.startswith("/dev/lefleet/")]
        assert "lefleet-camera@" not in told


def test_a_link_that_udev_did_not_make_is_found(host: Any, play: Callable[..., Any], variables: dict[str, Any]) -> None:
    """Only where udev runs, so the host is made to look as if it did."""
    host.run("mkdir -p /run/udev && touch /run/udev/control")
    try:
        verify = play(ROLE, [host], variables, tasks_from="verify")
    finally:
        host.run("rm -r /run/udev")
    assert verify.rc != 0
    assert "arm left: ttyACM0 is plugged in, but /dev/lefleet/left does not point to it" in words(verify)


def test_a_camera_gets_mjpg_whenever_it_is_plugged_in(host: Any) -> None:
    assert seen(host) == MJPG
    camera(host)
    host.run("systemctl start lefleet-camera@front")  # as udev does
    assert seen(host) == MJPG


def test_a_camera_in_use_is_left_as_it_is(host: Any, play: Callable[..., Any], variables: dict[str, Any]) -> None:
    camera(host, busy=True)
    ran = play(ROLE, [host], variables)
    assert (ran.rc, ran.changed) == (0, {host.name: 0})
    assert seen(host)["format"] == "YUYV"


def test_a_camera_that_lacks_the_format_is_an_error_that_names_those_it_has(
    host: Any, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    camera(host, offers=["YUYV", "GREY"])
    wrong = play(ROLE, [host], variables)
    assert wrong.rc != 0
    assert "camera front: MJPG was asked for; it offers YUYV, GREY" in words(wrong)
    camera(host)
    assert play(ROLE, [host], variables).changed == {host.name: 1}


def test_calibrations_arrive_with_their_fingerprint_and_verify_finds_a_foreign_one(
    host: Any, play: Callable[..., Any], variables: dict[str, Any], calibration: Path
) -> None:
    folder = "/etc/lefleet/calibration/robots/so_follower"
    assert host.read(f"{folder}/devices-1.json") == calibration.read_text()
    assert "OK" in host.run(f"cd {folder} && sha256sum --check devices-1.json.sha256").stdout
    leaders = "/etc/lefleet/calibration/teleoperators/so_leader"
    assert "OK" in host.run(f"cd {leaders} && sha256sum --check devices-1.json.sha256").stdout
    host.run(f"sed -i s/700/701/ {folder}/devices-1.json")
    verify = play(ROLE, [host], variables, tasks_from="verify")
    assert verify.rc != 0
    assert f"calibration devices-1: {folder}/devices-1.json has sha256" in words(verify)
    assert play(ROLE, [host], variables).changed == {host.name: 1}


def test_a_malformed_calibration_is_refused_with_its_joint_and_field(
    host: Any, play: Callable[..., Any], variables: dict[str, Any], tmp_path: Path
) -> None:
    wrong = json.loads(json.dumps(JOINTS))
    del wrong["gripper"]["homing_offset"]
    wrong["shoulder_pan"]["range_min"] = 3400
    (tmp_path / "wrong.json").write_text(json.dumps(wrong))
    files = [{"id": "devices-1", "file": str(tmp_path / "wrong.json")}]
    refused = play(ROLE, [host], variables | {"robot_devices_calibrations": files}, tasks_from="preflight")
    assert refused.rc != 0
    assert "joint gripper lacks homing_offset" in words(refused)
    assert "joint shoulder_pan: range_min 3400 must be below range_max 3400" in words(refused)


def test_what_is_required_and_missing_stops_the_run_before_anything_changes(
    host: Any, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    refused = play(ROLE, [host], variables | {"robot_devices_required": True})
    assert refused.rc != 0
    assert refused.changed == {host.name: 0}
    assert f"lacks arm right (serial {RIGHT}, 1a86:55d3), camera wrist" in words(refused)
    assert f"Seen beside what was asked for: serials {SPARE}; cameras none" in words(refused)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"robot_devices_arms": [{"name": "left/right", "serial": LEFT}]}, "needs a name of letters, digits and `-`"),
        (
            {"robot_devices_arms": [{"name": "a", "serial": LEFT}, {"name": "b", "serial": LEFT}]},
            "each must be another",
        ),
        ({"robot_devices_arms": [{"name": "a", "serial": 'x", RUN+="sh'}]}, "a serial of letters, digits"),
        ({"robot_devices_cameras": [{"name": "a", "path": "1.0-video-index0", **MJPG, "fps": 0}]}, "fps above 0"),
        ({"robot_devices_calibrations": [{"id": "a", "file": "nowhere.json"}]}, "nowhere.json: No such file"),
    ],
)
def test_wrong_variables_are_refused(
    host: Any, play: Callable[..., Any], variables: dict[str, Any], wrong: dict[str, Any], said: str
) -> None:
    refused = play(ROLE, [host], variables | wrong, tasks_from="preflight")
    assert refused.rc != 0
    assert said in words(refused)


def test_the_metrics_follow_what_is_plugged_in_without_ansible(host: Any) -> None:
    assert host.run("systemctl is-active lefleet-devices.timer").stdout.strip() == "active"
    assert 'lefleet_device_present{kind="arm",name="left"} 1' in host.read(METRICS)
    assert 'lefleet_device_present{kind="camera",name="wrist"} 0' in host.read(METRICS)
    host.run(f"mv {FAKE}/sys/bus/usb/devices/1-2.1 /srv/unplugged && systemctl start lefleet-devices")
    assert 'lefleet_device_present{kind="arm",name="left"} 0' in host.read(METRICS)
    host.run(f"mv /srv/unplugged {FAKE}/sys/bus/usb/devices/1-2.1 && systemctl start lefleet-devices")
    assert 'lefleet_device_present{kind="arm",name="left"} 1' in host.read(METRICS)
    assert "lefleet_device_problems 0" in host.read(METRICS)


def test_two_adapters_with_one_serial_are_a_problem(
    host: Any, play: Callable[..., Any], variables: dict[str, Any]
) -> None:
    host.run(f"echo {LEFT} > {FAKE}/sys/bus/usb/devices/1-2.2/serial")
    try:
        verify = play(ROLE, [host], variables, tasks_from="verify")
    finally:
        host.run(f"echo {SPARE} > {FAKE}/sys/bus/usb/devices/1-2.2/serial")
    assert verify.rc != 0
    assert f"2 adapters have serial {LEFT} (USB ports 1-2.1, 1-2.2)" in words(verify)


def test_the_metrics_are_written_after_a_reboot(host: Any) -> None:
    host.run(f"rm {METRICS}")
    host.reboot()
    assert host.run("systemctl is-active lefleet-devices.timer").stdout.strip() == "active"
    host.run("systemctl start lefleet-devices")
    assert host.exists(METRICS)
