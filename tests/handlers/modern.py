"""Python 3.6 and newer: f-strings, annotated variables, underscores in numbers, keyword-only arguments."""
import asyncio
import typing


async def _total(*, prices: typing.Dict[str, int]) -> int:
    return sum([price async for price in _each(prices)])


async def _each(prices):
    for price in prices.values():
        await asyncio.sleep(0)
        yield price


def handler(event: dict, context) -> dict:
    budget: int = 1_000_000
    # Off the main thread there is no loop to get: FunctionGraph's FAQ says to make one.
    loop = asyncio.new_event_loop()
    try:
        total = loop.run_until_complete(_total(prices=event["prices"]))
    finally:
        loop.close()
    print(f"{context.getFunctionName()}: {total:,} of {budget:,}")
    return {**event, "total": total, "left": f"{budget - total:_}"}
