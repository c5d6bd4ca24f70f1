"""A Service Catalog that says yes to everything, after `DELAY` seconds.

The sandbox knows its records and checks what it gets, in threads. Here it would be what is
measured; this takes a small part of a millisecond. `python -m benchmarks.endpoint DELAY` prints
its URL.
"""

import asyncio
import re
import sys

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.1\r\nContent-Length: 2\r\n"
    b"x-amzn-RequestId: 4a8e0d5c\r\n\r\n{}"
)


async def serve(delay: float) -> None:
    """Serve on a free port of 127.0.0.1 until this process is ended."""

    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                await reader.readexactly(int(length[1]) if length else 0)
                await asyncio.sleep(delay)
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(converse, "127.0.0.1", 0, backlog=128)
    port = server.sockets[0].getsockname()[1]
    print(f"http://127.0.0.1:{port}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(float(sys.argv[1])))
