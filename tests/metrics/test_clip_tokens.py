import numpy as np
import pytest

from vpbench.metrics.clip_tokens import CONTEXT, END, START, TOKENS, caption_ids

SENTENCE = "A brown dog runs along the beach while waves roll in and children build a castle. "


def content(ids):
    """The ids without start, end and padding, chunk after chunk."""
    return [row[1 : list(row).index(END)].tolist() for row in ids]


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("caption", ["a dog", "A dog. It runs!", "two\nlines"])
def test_short_captions_are_one_row_whatever_the_rule(tokens, caption):
    np.testing.assert_array_equal(caption_ids(caption, tokens), caption_ids(caption, "truncated"))
    assert caption_ids(caption, tokens).shape == (1, CONTEXT)


@pytest.mark.parametrize("tokens", TOKENS)
@pytest.mark.parametrize("caption", ["", "   ", "\n\t"])
def test_blank_captions_have_no_row(tokens, caption):
    assert caption_ids(caption, tokens).shape == (0, CONTEXT)


def test_chunks_lose_nothing_and_break_between_sentences():
    sentence = content(caption_ids(SENTENCE, "truncated"))[0]
    chunks = content(caption_ids(SENTENCE * 10, "chunked"))
    assert [word for chunk in chunks for word in chunk] == sentence * 10
    fit = (CONTEXT - 2) // len(sentence)
    assert chunks == [sentence * fit] * (10 // fit) + ([sentence * (10 % fit)] if 10 % fit else [])


def test_a_sentence_longer_than_the_context_is_split():
    words = "dog " * 200
    chunks = content(caption_ids(words, "chunked"))
    assert [len(chunk) for chunk in chunks] == [75, 75, 50]
    after = content(caption_ids(words + ". One more sentence.", "chunked"))
    assert len(after) == 3, "what is left of a split sentence shares its chunk with the next one"


def test_a_sentence_of_exactly_the_context_is_one_chunk():
    for count, chunks in ((75, 1), (76, 2)):
        assert len(caption_ids("dog " * count, "chunked")) == chunks


def test_long_captions_keep_or_lose_the_end_id():
    truncated, unterminated = (caption_ids("dog " * 100, tokens)[0] for tokens in ("truncated", "unterminated"))
    np.testing.assert_array_equal(truncated[:-1], unterminated[:-1])
    assert truncated[-1] == END
    assert unterminated[-1] < START
    assert unterminated.argmax() == 0, "the position that CLIP takes for the end"


@pytest.mark.parametrize("words", [74, 75, 76])
def test_the_end_id_is_lost_from_76_words_on(words):
    assert (END in caption_ids("dog " * words, "unterminated")) == (words <= 75)


@pytest.mark.parametrize(
    "caption",
    [
        pytest.param("狗在海滩上奔跑。" * 625, id="Chinese"),
        pytest.param("😀🏖️" * 1600, id="emoji"),
        pytest.param("собака бежит по пляжу. " * 220, id="Cyrillic"),
        pytest.param("x" * 5000, id="one word"),
        pytest.param("\ud800 \x00 \u200b", id="invalid"),
    ],
)
def test_any_text_of_5000_characters_works(caption):
    for tokens in TOKENS:
        ids = caption_ids(caption, tokens)
        assert (ids[:, 0] == START).all()
        assert ids.max() <= END
    assert all(len(chunk) <= CONTEXT - 2 for chunk in content(caption_ids(caption, "chunked")))


def test_a_caption_that_spells_the_end_marker_does_not_end_there():
    ids = caption_ids("a <end_of_text> dog", "truncated")[0]
    assert (ids == END).sum() == 1
    assert content([ids]) == content(caption_ids("a dog", "truncated"))
