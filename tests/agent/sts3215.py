"""STS3215 motors on a pseudo terminal: what LeRobot's real driver talks to where no arm is.

Feetech's protocol 0 (`FF FF id length instruction ... checksum`), the registers by the table in LeRobot's
`motors/feetech/tables.py`. Each fault is an attribute that a test switches on and off while the bus runs.
"""

import contextlib
import os
import random
import select
import threading
import time
import tty
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PING, READ, WRITE, SYNC_READ, SYNC_WRITE = 1, 2, 3, 0x82, 0x83
BROADCAST = 0xFE
MODEL, RETURN_DELAY, LOW, HIGH, MAX_TEMPERATURE, MAX_TORQUE, PHASE = 3, 7, 9, 11, 13, 16, 18
UNLOADING, P_GAIN, D_GAIN, I_GAIN, PROTECTION_CURRENT, OFFSET, MODE, OVERLOAD = 19, 21, 22, 23, 28, 31, 33, 36
TORQUE, ACCELERATION, GOAL, TORQUE_LIMIT, LOCK = 40, 41, 42, 48, 55
POSITION, LOAD, VOLTAGE, TEMPERATURE, STATUS, CURRENT = 56, 60, 62, 63, 65, 69
EEPROM_END = 40
VOLTAGE_FLAG, HEAT_FLAG = 1, 4
LATE_S = 0.1


class Servo:
    """One motor: its registers, and a shaft that turns towards the goal at a fixed speed."""

    def __init__(self, number: int, low: int, high: int, offset: int) -> None:
        self.registers = bytearray(128)
        self.position = (low + high) / 2
        self.speed_steps_per_s = 3000.0
        self.temperature_c, self.voltage_v, self.current_a, self.load = 31, 12.1, 0.0, 0
        self._moved_s = time.monotonic()
        self.put(0, 3, 1)
        self.put(1, 10, 1)
        self.put(MODEL, 777, 2)
        self.put(5, number, 1)
        self.put(RETURN_DELAY, 250, 1)
        self.put(LOW, low, 2)
        self.put(HIGH, high, 2)
        self.put(MAX_TEMPERATURE, 70, 1)
        self.put(MAX_TORQUE, 1000, 2)
        self.put(UNLOADING, 0x2C, 1)
        self.put(P_GAIN, 32, 1)
        self.put(D_GAIN, 32, 1)
        self.put(PROTECTION_CURRENT, 500, 2)
        self.put(OVERLOAD, 80, 1)
        self.put(OFFSET, signed(offset, 11), 2)
        self.eeprom = bytes(self.registers[:EEPROM_END])
        self.power_cycle()

    def power_cycle(self) -> None:
        """EEPROM as it was saved, the rest as it leaves the factory: no torque, and the goal at zero."""
        self.registers[:EEPROM_END] = self.eeprom
        self.registers[EEPROM_END:] = bytes(128 - EEPROM_END)
        self.put(LOCK, 1, 1)
        self.put(TORQUE_LIMIT, self.get(MAX_TORQUE, 2), 2)

    def get(self, address: int, length: int) -> int:
        return int.from_bytes(self.registers[address : address + length], "little")

    def put(self, address: int, value: int, length: int) -> None:
        self.registers[address : address + length] = value.to_bytes(length, "little")

    def write(self, address: int, data: bytes) -> None:
        """As the bus does it: EEPROM survives only what was written while it was not locked."""
        self.move()
        self.registers[address : address + len(data)] = data
        if address < EEPROM_END and not self.get(LOCK, 1):
            self.eeprom = bytes(self.registers[:EEPROM_END])

    def read(self, address: int, length: int) -> bytes:
        self.move()
        self.put(POSITION, signed(round(self.position), 15), 2)
        self.put(LOAD, signed(self.load, 10), 2)
        self.put(VOLTAGE, round(self.voltage_v * 10), 1)
        self.put(TEMPERATURE, self.temperature_c, 1)
        self.put(STATUS, self.flags(), 1)
        self.put(CURRENT, round(self.current_a / 0.0065), 2)
        return bytes(self.registers[address : address + length])

    def flags(self) -> int:
        hot = self.temperature_c > self.get(MAX_TEMPERATURE, 1)
        if hot and self.get(UNLOADING, 1) & HEAT_FLAG:
            self.put(TORQUE, 0, 1)
        return HEAT_FLAG * hot | VOLTAGE_FLAG * (self.voltage_v < 4.0)

    def move(self) -> None:
        now_s = time.monotonic()
        reach = self.speed_steps_per_s * (now_s - self._moved_s)
        self._moved_s = now_s
        if self.get(TORQUE, 1):
            goal = min(max(self.get(GOAL, 2), self.get(LOW, 2)), self.get(HIGH, 2))
            self.position += min(max(goal - self.position, -reach), reach)


def signed(value: int, bit: int) -> int:
    return abs(value) | (1 << bit if value < 0 else 0)


@dataclass(frozen=True)
class Written:
    """One register write as it came over the bus."""

    monotonic_s: float
    motor: int
    address: int
    data: bytes
    position: float
    """Where the shaft stood then."""

    @property
    def value(self) -> int:
        return int.from_bytes(self.data, "little")


class Bus:
    """The adapter and its motors. `link` is the port to open; it goes and comes with the plug, as udev's does."""

    def __init__(self, link: Path, servos: Iterable[Servo]) -> None:
        self.link = link
        self.servos = {servo.get(5, 1): servo for servo in servos}
        self.written: list[Written] = []
        self.missing: set[int] = set()
        self.silent_packets = 0
        self.garbled_packets = 0
        self.wrong_id_packets = 0
        self.short_packets = 0
        self.loss = 0.0
        self.answer_delay_s = 0.0
        self.late_packets = 0
        """Answers that come when nobody waits for them any more."""
        self.packets = 0
        """Status packets sent, lost ones too."""
        self._random = random.Random(7)  # noqa: S311
        self._master = self._slave = -1
        self._thread: threading.Thread | None = None
        self._buffer = b""

    def plug(self) -> None:
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        self._buffer = b""
        self.link.unlink(missing_ok=True)
        self.link.symlink_to(os.ttyname(self._slave))
        self._thread = threading.Thread(target=self._serve, name="sts3215", daemon=True)
        self._thread.start()

    def unplug(self) -> None:
        if self._thread is None:
            return
        self.link.unlink(missing_ok=True)
        thread, self._thread = self._thread, None
        thread.join()
        os.close(self._slave)
        os.close(self._master)

    def writes(self, address: int, motor: int | None = None) -> list[Written]:
        return [each for each in self.written if each.address == address and motor in (None, each.motor)]

    def _serve(self) -> None:
        master = self._master
        while self._thread is threading.current_thread():
            if not select.select([master], [], [], 0.02)[0]:
                continue
            self._buffer += os.read(master, 4096)
            while packet := self._next_packet():
                self._handle(*packet)

    def _next_packet(self) -> tuple[int, int, bytes] | None:
        start = self._buffer.find(b"\xff\xff")
        if start < 0 or len(self._buffer) < start + 6:
            return None
        end = start + 4 + self._buffer[start + 3]
        if len(self._buffer) < end:
            return None
        packet, self._buffer = self._buffer[start:end], self._buffer[end:]
        if sum(packet[2:]) & 0xFF != 0xFF:
            return self._next_packet()
        return packet[2], packet[4], packet[5:-1]

    def _handle(self, number: int, instruction: int, body: bytes) -> None:
        if instruction == SYNC_READ:
            for each in body[2:]:
                self._read(each, body[0], body[1])
        elif instruction == SYNC_WRITE:
            step = body[1] + 1
            for at in range(2, len(body), step):
                self._write(body[at], body[0], body[at + 1 : at + step])
        elif instruction == PING:
            for each in self.servos if number == BROADCAST else [number]:
                self._answer(each, b"")
        elif instruction == READ:
            self._read(number, body[0], body[1])
        elif instruction == WRITE:
            self._write(number, body[0], body[1:])
            self._answer(number, b"")

    def _there(self, number: int) -> bool:
        return number in self.servos and number not in self.missing

    def _read(self, number: int, address: int, length: int) -> None:
        if self._there(number):
            self._answer(number, self.servos[number].read(address, length))

    def _write(self, number: int, address: int, data: bytes) -> None:
        if self._there(number):
            servo = self.servos[number]
            servo.write(address, data)
            self.written.append(Written(time.monotonic(), number, address, data, servo.position))

    def _answer(self, number: int, data: bytes) -> None:
        if not self._there(number):
            return
        self.packets += 1
        if self._spend("silent_packets") or self._random.random() < self.loss:
            return
        if self._spend("short_packets"):
            data = b""
        sender = number + 20 if self._spend("wrong_id_packets") else number
        packet = bytearray([0xFF, 0xFF, sender, len(data) + 2, self.servos[number].flags(), *data])
        packet.append(~sum(packet[2:]) & 0xFF)
        if self._spend("garbled_packets"):
            packet[-1] ^= 0x55
        time.sleep(LATE_S if self._spend("late_packets") else self.answer_delay_s)
        with contextlib.suppress(OSError):  # unplugged meanwhile
            os.write(self._master, packet)

    def _spend(self, fault: str) -> bool:
        left: int = getattr(self, fault)
        setattr(self, fault, max(0, left - 1))
        return left > 0
