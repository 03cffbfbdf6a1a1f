# SPDX-License-Identifier: Apache-2.0

"""A server in Python, with the bindings that its tool makes.

/hello            answers "hello"
/length           reads the body, and answers its length
/echo             sends the body back
/lines            sends a thousand lines
/nothing          answers with status 204
/fails            raises an exception
/fetch?URL        sends a body to another server, and answers with the status and the body of its answer; "refused" if there is none
/all?URL          asks another server five times at once, and answers with all that it says
"""

from componentize_py_types import Err, Ok
from wit_world.exports import IncomingHandler as Base
from wit_world.imports import outgoing_handler
from wit_world.imports.streams import StreamError_Closed
from wit_world.imports.types import (
    Fields,
    Method_Post,
    OutgoingBody,
    OutgoingRequest,
    OutgoingResponse,
    ResponseOutparam,
    Scheme_Http,
    Scheme_Https,
)


def pieces(body):
    with body.stream() as stream:
        while True:
            try:
                yield stream.blocking_read(64 << 10)
            except Err as error:
                if isinstance(error.value, StreamError_Closed):
                    return
                raise


def write(body, parts):
    with body.write() as stream:
        for part in parts:
            # As much as one call takes.
            for start in range(0, len(part), 4096):
                stream.blocking_write_and_flush(part[start : start + 4096])
    OutgoingBody.finish(body, None)


def answer(out, status, parts):
    response = OutgoingResponse(Fields.from_list([]))
    response.set_status_code(status)
    body = response.body()
    ResponseOutparam.set(out, Ok(response))
    write(body, parts)


def ask(url, parts):
    """Asks another server; its answer is still to come."""
    scheme, _, place = url.partition("://")
    host, _, path = place.partition("/")
    request = OutgoingRequest(Fields.from_list([]))
    request.set_method(Method_Post())
    request.set_scheme(Scheme_Https() if scheme == "https" else Scheme_Http())
    request.set_authority(host)
    request.set_path_with_query("/" + path)
    body = request.body()
    response = outgoing_handler.handle(request, None)
    write(body, parts)
    return response


def answered(response):
    response.subscribe().block()
    answer = response.get().value
    if isinstance(answer, Err):
        raise answer
    return answer.value


def fetch(url):
    try:
        response = answered(ask(url, [b"a body"]))
    except Err:
        yield b"refused\n"
        return
    yield b"%d " % response.status()
    yield from pieces(response.consume())


def fetch_all(url):
    for response in [ask(url, []) for _ in range(5)]:
        yield from pieces(answered(response).consume())


class IncomingHandler(Base):
    def handle(self, request, out):
        path, _, query = request.path_with_query().partition("?")
        match path:
            case "/hello":
                answer(out, 200, [b"hello\n"])
            case "/length":
                length = sum(map(len, pieces(request.consume())))
                answer(out, 200, [b"%d\n" % length])
            case "/echo":
                answer(out, 200, pieces(request.consume()))
            case "/lines":
                answer(out, 200, (b"line %d\n" % line for line in range(1000)))
            case "/nothing":
                answer(out, 204, [])
            case "/fails":
                raise ValueError("it fails")
            case "/fetch":
                answer(out, 200, fetch(query))
            case "/all":
                answer(out, 200, fetch_all(query))
            case _:
                answer(out, 404, [b"there is no such path\n"])
