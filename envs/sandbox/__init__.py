"""Running programs nobody has read: a warm fork server whose children can compute and little else.

`pool.Sandbox` is what callers use. The other modules run inside the server, which is started without site-packages
and must therefore import the standard library only; they import each other relatively because there the package is
called `sandbox`.

What contains a program, layer by layer, so that no single one has to be perfect:

- *System calls*: an allow-list (`seccomp`) without processes, threads, sockets, signals to others, tracing or mounts.
- *Files*: in a private root (`private_root`: user and mount namespaces) only the interpreter's library is
  visible, read-only, and `/tmp` is an empty folder of bounded size, new for each program. Where the kernel grants no
  namespaces the allow-list forbids opening for writing and every other change to a file instead; reading what the user
  may read remains possible there.
- *Limits*: address space, processor time, file size, open files, core dumps; and wall time, kept by the server, which
  kills the program. A program is one process, so nothing survives it.

The server tests the first two on itself before it accepts work, and refuses to work where it finds a hole.

Not contained: timing channels, and defects of the kernel. The library is that of the running interpreter, without
third-party packages. Linux on x86-64 or arm64 only.
"""
