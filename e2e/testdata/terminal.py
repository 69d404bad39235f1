"""Runs a program on a terminal of its own: terminal.py COLUMNS PATTERN PROGRAM ARGUMENT…

What the program draws goes to standard output. Once PATTERN was drawn, Ctrl-C is
typed, unless PATTERN is empty. The exit code is the program's.
"""
import fcntl
import os
import pty
import re
import struct
import sys
import termios

columns, pattern, command = int(sys.argv[1]), sys.argv[2], sys.argv[3:]
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    os.environ["TERM"] = "xterm-256color"
    os.execv(command[0], command)
drawn = b""
while True:
    try:
        part = os.read(terminal, 65536)
    except OSError:  # Linux says EIO when the last one has closed its end
        break
    if not part:
        break
    drawn += part
    if pattern and re.search(pattern.encode(), drawn):
        os.write(terminal, b"\x03")
        pattern = ""
sys.stdout.buffer.write(drawn)
sys.stdout.flush()
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
