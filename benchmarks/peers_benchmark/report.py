"""The tables: all variants of a case, and ours beside the fastest peer."""

import dataclasses

import numpy as np
from timing import ratio

from peers_benchmark.cases import FEWER_SAMPLES
from peers_benchmark.cases import PLAIN
from peers_benchmark.cases import PRODUCTS
from peers_benchmark.cases import SAMPLES
from peers_benchmark.cases import Variant

OURS = "keras_uq_layers"


@dataclasses.dataclass(frozen=True)
class Block:
    """The times of the variants of one case.

    Attributes:
        case: Its name.
        what: What was timed.
        base: `(loop, layers)` of the variant that counts as 1.
        variants: The variants.
        times: For each an array of seconds, one a round.
    """

    case: str
    what: str
    base: tuple[str, str]
    variants: list[Variant]
    times: list[np.ndarray]

    def find(self, **attributes):
        """The variants with these attributes, and their times."""
        return [
            (v, times)
            for v, times in zip(self.variants, self.times, strict=True)
            if all(getattr(v, key) == value for key, value in attributes.items())
        ]

    @property
    def base_times(self):
        loop, layers = self.base
        return self.find(loop=loop, layers=layers, estimator=PLAIN)[0][1]

    def lines(self):
        """The table of all variants."""
        rounds = len(self.base_times)
        yield f"\n### {self.case}: {self.what}, {rounds} rounds\n"
        yield f"| loop | layers | estimator | ms | times `{self.base[1]}` | adds ms |"
        yield "| --- | --- | --- | --- | --- | --- |"
        for v, times in self.find():
            ms = 1e3 * np.median(times)
            cells = [v.loop, v.layers, v.estimator, f"{ms:.3f}"]
            cells.append(ratio(times, self.base_times))
            plain = self.find(loop=v.loop, estimator=PLAIN)
            extra = ""
            if plain and v.estimator not in (PLAIN, PRODUCTS):
                extra = f"{1e3 * np.median(times - plain[0][1]):.3f}"
            cells.append(extra)
            yield f"| {' | '.join(cells)} |"

    def beside_peers(self, loop):
        """Dict from estimator to text: our time in the base's, and in a peer's."""
        cells = {}
        for ours, times in self.find(layers=OURS, loop=loop):
            cells[ours.estimator] = ratio(times, self.base_times)
            # In predictions our estimators are the same.
            alike = {"estimator": ours.estimator} if ours.step else {}
            rivals = [
                (np.median(other), other, v.layers)
                for v, other in self.find(**alike)
                if v.layers != OURS and v.estimator not in (PLAIN, PRODUCTS)
            ]
            if rivals:
                _, fastest, name = min(rivals, key=lambda rival: rival[0])
                cells[ours.estimator] += f"; {ratio(times, fastest)} {name}"
        return cells


def summary(blocks):
    """Tables of ours beside the fastest peer, one for each loop of ours."""
    kinds = {
        (b.what, v.loop): None for b in blocks for v in b.variants if v.layers == OURS
    }
    for what, loop in kinds:
        rows = {b.case: b.beside_peers(loop) for b in blocks if b.what == what}
        estimators = list(dict.fromkeys(e for cells in rows.values() for e in cells))
        yield f"\n### {what}, ours in the loop `{loop}`\n"
        yield f"| case | {' | '.join(estimators)} |"
        yield f"| --- |{' --- |' * len(estimators)}"
        for case, cells in rows.items():
            yield f"| {case} | {' | '.join(cells.get(e, '') for e in estimators)} |"


def markdown(header, blocks):
    fewer = (f"{passes} with {name} units" for name, passes in FEWER_SAMPLES.items())
    return "\n".join(
        [
            header,
            "",
            "## Ours beside the fastest peer",
            "",
            f"A cell: our time in times `{blocks[0].base[1]}`; in times the fastest",
            "peer with that estimator, in predictions with any, and its name. Medians",
            f"and quartiles. A prediction makes {SAMPLES} passes, {', '.join(fewer)}.",
            *summary(blocks),
            "",
            "## All variants",
            "",
            "`adds ms`: beyond the same network of plain layers in the same loop.",
            *(line for block in blocks for line in block.lines()),
            "",
        ]
    )
