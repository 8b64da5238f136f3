"""Recording: the control thread hands frames to a process of its own, which makes them durable.

ring      shared memory between control and the recorder
sink      what control calls: begin, add, end, status
handle    starts the recorder and starts it again when it died
arm_health  the motors' health, told through the same ring
recorder  the process: drains the ring into a journal, tells how the robot is
journal   append-only MCAP file, a checksum for each tick
publisher journal -> HDF5 -> spool, one durable step after another; also after a crash
"""
