// SPDX-License-Identifier: Apache-2.0

// A server in JavaScript, with the means that its tool gives (https://github.com/bytecodealliance/ComponentizeJS): its paths
// are those of ../python/server.py.

const text = new TextEncoder();

async function answer(request) {
  const url = new URL(request.url);
  switch (url.pathname) {
    case "/hello":
      return new Response("hello\n");
    case "/length":
      return new Response(`${(await request.arrayBuffer()).byteLength}\n`);
    case "/echo":
      return new Response(request.body);
    case "/lines": {
      let line = 0;
      return new Response(
        new ReadableStream({
          pull(to) {
            if (line === 1000) to.close();
            else to.enqueue(text.encode(`line ${line++}\n`));
          },
        }),
      );
    }
    case "/nothing":
      return new Response(null, { status: 204 });
    case "/fails":
      throw new Error("it fails");
    case "/fetch": {
      let response;
      try {
        response = await fetch(url.search.slice(1), { method: "POST", body: "a body" });
      } catch {
        return new Response("refused\n");
      }
      return new Response(`${response.status} ${await response.text()}`);
    }
    case "/all": {
      const asked = Array.from({ length: 5 }, () => fetch(url.search.slice(1), { method: "POST" }));
      const texts = (await Promise.all(asked)).map((response) => response.text());
      return new Response((await Promise.all(texts)).join(""));
    }
    default:
      return new Response("there is no such path\n", { status: 404 });
  }
}

addEventListener("fetch", (event) => event.respondWith(answer(event.request)));
