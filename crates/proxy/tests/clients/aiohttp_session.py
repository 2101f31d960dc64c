"""aiohttp with one session."""

import asyncio

import aiohttp

import plan


async def chunks(whole):
    for piece in plan.pieces(whole):
        yield piece


async def ask(session, method, url, headers, kind):
    body = plan.body(kind)
    if kind == "chunked":
        body = chunks(body)
    asks = kind.startswith("asks")
    async with session.request(method, url, headers=headers, data=body, expect100=asks) as answer:
        await answer.read()
        return answer.status


async def main():
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for name, early, then in plan.lines():
            try:
                print(name, await ask(session, *early), await ask(session, *then), sep="\t")
            except Exception as error:
                print(name, repr(error), sep="\t")


asyncio.run(main())
