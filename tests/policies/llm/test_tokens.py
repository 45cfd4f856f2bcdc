"""Who sees whom, and what stands where, against the slow obvious loop."""

import pytest
import torch

from netllm_gym.errors import InputError
from netllm_gym.policies.llm.abr import LAYOUTS
from netllm_gym.policies.llm.tokens import TokenLayout, TokenSpec, TokenTable

# Per step: r, two s of which the second may be missing, then a once the decision is made.
LAYOUT = TokenLayout(
    (
        TokenSpec("r", ("r",)),
        TokenSpec("s", ("s",), count=2),
        TokenSpec("a", ("a",), when="after"),
    ),
    reads="s",
)


def table_of(steps, exists=None):
    steps = torch.tensor([steps])
    previous_valid = torch.arange(steps.shape[1])[None] > 0
    masks = {} if exists is None else {"s": exists}
    valid = torch.ones_like(steps, dtype=torch.bool)
    return LAYOUT.table(steps, valid, previous_valid, LAYOUT.sizes, masks)


def test_netllm_has_eight_tokens_a_step_and_reads_the_last_of_the_state():
    layout = LAYOUTS["netllm"]
    assert layout.places_per_step == 8
    assert [token.name for token in layout.tokens] == [
        *("return", "bitrate", "buffer", "throughput", "download", "sizes", "remaining", "action")
    ]
    assert layout.reads == "remaining"
    # A chunk is the action before, the return and s1..s6, so s6 is its last token; counted from
    # the first return, the reads of a sequence stand at 8 (i + 1) - 2, as in the paper's code.
    assert layout.in_chunk("remaining", layout.sizes) == slice(7, 8)
    steps = torch.arange(3)[None]
    valid = torch.ones(1, 3, dtype=torch.bool)
    places = layout.table(steps, valid, valid, layout.sizes, {}).place.reshape(3, 8)
    assert places[:, 7].tolist() == [8 * (i + 1) - 2 for i in range(3)]


def test_tokens_stand_chunk_by_chunk_and_are_gathered_by_name():
    B, T, d = 2, 3, 4
    embedded = {
        name: torch.randn(B, T, count, d) for name, count in {"r": 1, "s": 2, "a": 1}.items()
    }
    sequence = LAYOUT.arrange(embedded)
    assert sequence.shape == (B, T * 4, d)
    assert torch.equal(sequence[:, 4], embedded["a"][:, 1, 0])  # after r0 s0 s0': a of step 0
    assert torch.equal(sequence[:, 5], embedded["r"][:, 1, 0])
    for name, each in embedded.items():
        assert torch.equal(LAYOUT.gather(sequence, name, LAYOUT.sizes), each)


def test_an_action_belongs_to_the_step_before_its_chunk():
    table = table_of([0, 1, 2])
    assert table.place.tolist() == [[-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]]
    assert table.valid.tolist() == [[False] + [True] * 11]
    assert LAYOUT.steps_of(table.place).tolist() == [[0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2]]
    assert LAYOUT.positions(table.place, "slot")[0, :5].tolist() == [3, 0, 1, 2, 3]


@pytest.mark.parametrize("band_steps", [1, 2, 5])
def test_mask_is_the_rule_spelled_out(band_steps):
    exists = torch.rand(1, 5, 2, generator=torch.Generator().manual_seed(0)) < 0.6
    table = table_of(range(5), exists)
    mask = LAYOUT.mask(table, table, torch.arange(20), band_steps)
    assert mask.shape == (1, 1, 20, 20)
    for query in range(20):
        for key in range(20):
            asks, seen = int(table.place[0, query]), int(table.place[0, key])
            step = asks // 4 - seen // 4
            sees = bool(table.valid[0, key]) and seen <= asks and step < band_steps
            assert mask[0, 0, query, key] == (sees or query == key)


def test_rows_that_are_alike_share_one_mask():
    one = table_of(range(3))
    alike = TokenTable(*(each.repeat(2, 1) for each in one))
    own = torch.arange(12)
    shared = LAYOUT.mask(alike, alike, own, 2)
    assert shared.shape[0] == 1
    assert torch.equal(shared, LAYOUT.mask(one, one, own, 2))
    other = table_of(range(1, 4))
    both = TokenTable(*(torch.cat(pair) for pair in zip(one, other, strict=True)))
    mask = LAYOUT.mask(both, both, own, 2)
    for row, each in enumerate((one, other)):
        assert torch.equal(mask[row : row + 1], LAYOUT.mask(each, each, own, 2))


def test_a_layout_that_cannot_be_served_is_refused():
    before, after = TokenSpec("s", ("s",)), TokenSpec("a", ("a",), when="after")
    with pytest.raises(InputError, match="before the decision must come first"):
        TokenLayout((after, before), reads="s")
    with pytest.raises(InputError, match="reads must name a token before the decision, got 'a'"):
        TokenLayout((before, after), reads="a")
    with pytest.raises(InputError, match="tokens must have different names"):
        TokenLayout((before, before), reads="s")
