"""Token ids must be open_clip's for every text, since one different id changes a label's features."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeroshot.engines.tokens import BytePairTokenizer, HuggingFaceTokenizer
from zeroshot.errors import ModelError

HOSTILE = [
    "",
    " ",
    "a photo of a dog.",
    "A PHOTO of a Dog's bowl, it'll do; they've won't I'm you're he'd",
    "the dog 's 't 're ‘quoted’ “twice” – dashed — twice… ﬁne ﬂour",
    "cat_dog cat dog  cat\tdog\ncat\r\ndog\u00a0cat\u3000dog",
    "&amp; &lt;b&gt; &amp;amp;lt; &eacute; &#39; &nbsp; <b>&amp;</b> AT&T R&D",
    "café cafe\u0301 naïve Ångström İstanbul ſtraße ß ŒUVRE ǅ",
    "schÃ¶n l’Ã©tÃ© âœ” No problem",  # mojibake that ftfy fixes
    "狗的照片 犬の写真 개 사진 ภาพ कुत्ता كلب כלב",
    "😀 👨‍👩‍👧‍👦 🇳🇱 👍🏽 ❤️ \u200b\u200d\ufeff",
    "１２３ ½ Ⅷ ² 12345 3.14 1,000",
    "<end_of_text>",
    "a <start_of_text> b <END_OF_TEXT> c<end_of_text>d",
    "<end_of_text",
    "!!! ??? ... --- !? {} {c} \\ / ~ ` @#$%^*()[]|",
    "\x00\x01\x1b[31mred\x1b[0m\x7f",
    "\ud83d\udcff lone surrogates",
    "x" * 3000,
    "word " * 200,
    "pneumonoultramicroscopicsilicovolcanoconiosis antidisestablishmentarianism",
    "'s'S'T'Re'LL'ſ K (kelvin) ſ",
]


def random_texts(count: int) -> list[str]:
    """Return texts of letters, digits, punctuation, entities and any code point up to U+1FFFF."""
    generator = random.Random(20240601)
    texts = []
    for _ in range(count):
        alphabet = generator.choice(
            [
                lambda: chr(generator.randrange(32, 127)),
                lambda: chr(generator.randrange(1, 0x250)),
                lambda: chr(generator.randrange(1, 0x20000)),
                lambda: generator.choice(["'s", "'ll", "&amp;", "&#233;", "_", " ", "<end_of_text>", "dog", "9"]),
            ]
        )
        texts.append("".join(alphabet() for _ in range(generator.randrange(60))))
    return texts


@pytest.fixture(scope="module")
def reference() -> Any:
    from open_clip import tokenizer

    return tokenizer


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
@pytest.mark.parametrize("context_length", [77, 16])
def test_ids_equal_open_clips(reference: Any, clean: str, context_length: int) -> None:
    """Every text, however hostile, gives open_clip's ids, truncation and padding."""
    texts = HOSTILE + random_texts(1500)
    expected = reference.SimpleTokenizer(clean=clean)(texts, context_length=context_length).numpy()
    ids = BytePairTokenizer(context_length, clean).encode(texts)
    assert ids.dtype == np.int64
    different = [text for text, ours, theirs in zip(texts, ids, expected, strict=True) if (ours != theirs).any()]
    assert different == []


def test_counts_are_taken_before_truncation(reference: Any) -> None:
    """A text's count includes its start and end, and does not stop at the context length."""
    simple = reference.SimpleTokenizer()
    assert BytePairTokenizer(16).count(HOSTILE) == [len(simple.encode(text)) + 2 for text in HOSTILE]


def test_special_tokens_are_those_the_tokenizer_obeys() -> None:
    """Each listed spelling is read as one control token."""
    tokenizer = BytePairTokenizer()
    assert tokenizer.special_tokens == ("<start_of_text>", "<end_of_text>")
    assert tokenizer.count(list(tokenizer.special_tokens)) == [3, 3]


def test_a_known_sentence() -> None:
    """The ids of the README's first sentence are the published ones."""
    assert BytePairTokenizer().encode(["a photo of a dog."])[0, :9].tolist() == [
        49406, 320, 1125, 539, 320, 1929, 269, 49407, 0,
    ]  # fmt: skip


def test_unknown_cleaning_is_refused() -> None:
    """A way of cleaning that open_clip may add later is not guessed at."""
    with pytest.raises(ModelError, match="'stem'"):
        BytePairTokenizer(clean="stem")


@pytest.fixture(scope="module")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small transformers tokenizer that pads, truncates and adds a separator."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "photo", "of", "dog", "cat", ".", "##s"]
    backend = Tokenizer(models.WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    backend.normalizer = normalizers.BertNormalizer()
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    fast = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    fast.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("strip", [False, True])
@pytest.mark.parametrize("clean", ["whitespace", "canonicalize"])
def test_hugging_face_ids_equal_open_clips(reference: Any, hugging_face: Path, clean: str, strip: bool) -> None:
    """A tokenizer.json gives what open_clip's HFTokenizer gives on the same folder."""
    theirs = reference.HFTokenizer(str(hugging_face), context_length=8, clean=clean, strip_sep_token=strip)
    ours = HuggingFaceTokenizer(
        hugging_face / "tokenizer.json", context_length=8, clean=clean, pad_id=0, zeroed_id=3 if strip else None
    )
    texts = [*HOSTILE, "a photo of dogs", "a dog [SEP] a cat of a photo of a dog of a cat"]
    assert (ours.encode(texts) == theirs(texts).numpy()).all()
    assert ours.count(["a photo of dogs", "a dog " * 10]) == [7, 22]


def test_damaged_tokenizer_is_a_model_error(tmp_path: Path) -> None:
    """A tokenizer.json that is no tokenizer is named in the error."""
    path = tmp_path / "tokenizer.json"
    path.write_text("{}")
    with pytest.raises(ModelError, match=r"tokenizer\.json"):
        HuggingFaceTokenizer(path, context_length=8, clean="whitespace", pad_id=0)
