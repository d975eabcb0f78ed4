# SPDX-License-Identifier: Apache-2.0
# resize.py CONFIG: a person at a terminal changes its size, presses Ctrl-C, and suspends nothing.
import fcntl, os, pty, re, struct, sys, termios, time

def size(fd, rows, cols):
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

REMOTE = r'''
trap 'echo "INT"; exit 3' INT
trap 'echo "SIZE $(stty size)"' WINCH
echo "SIZE $(stty size)"
echo READY
while :; do sleep 0.1; done
'''

pid, fd = pty.fork()
if pid == 0:
    time.sleep(0.3)  # the size is set before ssh reads it
    os.execvp("ssh", ["ssh", "-F", sys.argv[1], "-tt", "t", "bash -c '" + REMOTE.replace("'", "'\\''") + "'"])
size(fd, 33, 99)
seen = b""

def until(pattern):
    global seen
    end = time.time() + 60
    while not re.search(pattern, seen):
        if time.time() > end:
            sys.exit("waited for %r, saw %r" % (pattern, seen))
        try:
            seen += os.read(fd, 4096)
        except OSError:
            break

until(b"READY")
for rows, cols in ((40, 100), (10, 200), (24, 80)):
    size(fd, rows, cols)
    until(b"SIZE %d %d" % (rows, cols))
os.write(fd, b"\x03")
until(b"INT")
while True:
    try:
        more = os.read(fd, 4096)
    except OSError:
        break
    if not more:
        break
    seen += more
_, status = os.waitpid(pid, 0)
print(re.findall(rb"SIZE \d+ \d+|INT", seen.replace(b"^C", b"")), os.waitstatus_to_exitcode(status))
