# SPDX-License-Identifier: Apache-2.0
# client.py WAY: the same by paramiko, which has no ssh_config of ours to read.
import hashlib, sys
import paramiko

way = sys.argv[1]
key = paramiko.Ed25519Key.from_private_key_file("/root/.ssh/id_ed25519")

def connect(host, port, user, sock=None):
    c = paramiko.SSHClient()
    c.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    c.connect(host, port, user, pkey=key, sock=sock, allow_agent=False, look_for_keys=False, banner_timeout=60)
    return c

if way == "direct":
    c = connect("box", 22, "alice")
elif way == "terminated":
    c = connect("gw", 2222, "alice%seen")
else:
    port = {"raw": 22, "inside": 2022}[way]
    gate = connect("gw", 2222, "alice")
    c = connect("box", port, "alice", gate.get_transport().open_channel("direct-tcpip", ("box", port), ("127.0.0.1", 0)))

stdin, stdout, stderr = c.exec_command("cat; echo oops >&2; exit 42")
stdin.write("to and fro\n")
stdin.channel.shutdown_write()
print(stdout.read(), stderr.read(), stdout.channel.recv_exit_status())

ch = c.get_transport().open_session()
ch.get_pty("vt100", 99, 33)
ch.exec_command("stty size; echo $TERM")
out = b""
while True:
    more = ch.recv(4096)
    if not more:
        break
    out += more
print(out, ch.recv_exit_status())

sftp = c.open_sftp()
data = bytes(range(256)) * 8192
with sftp.open("paramiko-" + way, "wb") as f:
    f.write(data)
with sftp.open("paramiko-" + way, "rb") as f:
    f.prefetch()
    print(hashlib.sha256(f.read()).hexdigest(), hashlib.sha256(data).hexdigest())
sftp.chmod("paramiko-" + way, 0o640)
s = sftp.stat("paramiko-" + way)
print(oct(s.st_mode), s.st_size)
try:
    sftp.stat("nothing-here")
except OSError as e:
    print(type(e).__name__, e.errno)
sftp.remove("paramiko-" + way)
t = c.get_transport().open_channel("direct-tcpip", ("127.0.0.1", 8000), ("127.0.0.1", 0))
t.sendall(b"GET /small HTTP/1.0\r\n\r\n")
out = b""
while True:
    more = t.recv(65536)
    if not more:
        break
    out += more
print(out.split(b"\r\n\r\n", 1)[1])
