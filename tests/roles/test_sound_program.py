"""Which sink role pulseaudio's program takes, and what it hears. The program runs on hosts: here are its decisions."""

import array
import importlib.machinery
import importlib.util
import math
import random
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SOURCE = Path(__file__).resolve().parents[2] / "roles" / "pulseaudio" / "files" / "lefleet-sound"
# As pactl 16 prints a USB card with a jack that nothing is plugged into.
CARD = """\tState: SUSPENDED
\tName: alsa_output.usb-Generic_Speaker-00.analog-stereo
\tDescription: USB Audio Analog Stereo
\tDriver: module-alsa-card.c
\tMute: yes
\tVolume: front-left: 26214 /  40% / -23.88 dB,   front-right: 19661 /  30% / -31.37 dB
\t        balance -0.25
\tBase Volume: 65536 / 100% / 0.00 dB
\tProperties:
\t\talsa.card_name = "Jabra SPEAK 410"
\t\tdevice.bus = "usb"
\tPorts:
\t\tanalog-output-speaker: Speakers (type: Speaker, priority: 10000, availability unknown)
\t\tanalog-output-headphones: Headphones (type: Headphones, priority: 9900, availability group: Legacy 1, not available)
\tActive Port: analog-output-headphones
"""


@pytest.fixture(scope="module")
def sound() -> ModuleType:
    loader = importlib.machinery.SourceFileLoader("lefleet_sound", str(SOURCE))
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def sink(name: str, **values: Any) -> dict[str, Any]:
    return {"name": name, "description": name, "card": "", "null": False, "unplugged": False} | values


SILENCE = sink("lefleet_null", null=True)
SCREEN = sink("alsa_output.platform-3510000.hda.hdmi-stereo", description="Screen")
BOARD = sink("alsa_output.platform-sound.analog-stereo", description="Built-in")
USB = sink("alsa_output.usb-Generic_Speaker-00.analog-stereo", description="Speaker", card="Jabra SPEAK 410")
EVERY = [SILENCE, SCREEN, BOARD, USB]


def test_pactls_words_are_understood(sound: ModuleType) -> None:
    told = sound.parse(CARD)
    assert (told["name"], told["card"]) == ("alsa_output.usb-Generic_Speaker-00.analog-stereo", "Jabra SPEAK 410")
    assert (told["volume_percent"], told["mute"], told["unplugged"], told["null"]) == (40, True, True, False)


def test_auto_prefers_usb_then_the_board_then_a_screen_then_silence(sound: ModuleType) -> None:
    for left in ([*EVERY], EVERY[:3], EVERY[:2], EVERY[:1]):
        assert sound.choose("auto", left) == left[-1]


def test_auto_passes_over_a_card_that_nothing_is_plugged_into(sound: ModuleType) -> None:
    assert sound.choose("auto", [SILENCE, BOARD, USB | {"unplugged": True}]) == BOARD


@pytest.mark.parametrize("wanted", ["jabra", "speaker", "*USB*analog*", USB["name"]])
def test_a_part_of_its_name_description_or_card_chooses_a_sink(sound: ModuleType, wanted: str) -> None:
    assert sound.choose(wanted, EVERY) == USB


def test_silence_is_chosen_by_its_word(sound: ModuleType) -> None:
    assert sound.choose("null", EVERY) == SILENCE


def test_no_such_sink_is_refused_with_those_there_are(sound: ModuleType) -> None:
    with pytest.raises(sound.NoSuchSink, match=r"pulseaudio_sink=bose fits none .* there are: .*Speaker.*; .*; "):
        sound.choose("bose", EVERY)
    with pytest.raises(sound.NoSuchSink, match="there are: no sound card"):
        sound.choose("bose", [SILENCE])


def samples(sound: ModuleType, hz: float, amplitude: float) -> "array.array[int]":
    count = int(sound.RATE_HZ * 1.2)
    return array.array("h", (int(amplitude * math.sin(2 * math.pi * hz * n / sound.RATE_HZ)) for n in range(count)))


def test_the_tone_is_heard(sound: ModuleType) -> None:
    heard = sound.judge(samples(sound, sound.TONE_HZ, sound.AMPLITUDE), "")
    assert heard["amplitude"] == pytest.approx(sound.AMPLITUDE, rel=0.01)


def test_silence_noise_another_tone_and_nothing_at_all_are_not_the_tone(sound: ModuleType) -> None:
    chance = random.Random(7)  # noqa: S311
    noise = array.array("h", (chance.randint(-12_000, 12_000) for _ in range(20_000)))
    for wrong in (samples(sound, 440, 0), noise, samples(sound, 700, sound.AMPLITUDE), array.array("h")):
        with pytest.raises(sound.SoundError, match="did not arrive"):
            sound.judge(wrong, "")
