"""Template sets: literal filling, sets as files, and the published ones equal to open_clip's."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest

from zeroshot.errors import PromptError
from zeroshot.prompts import template_sets
from zeroshot.prompts.labels import Label
from zeroshot.prompts.template_sets import TemplateSet


@pytest.mark.parametrize(
    ("template", "word", "expected"),
    [
        ("a photo of a {}.", "cat", "a photo of a cat."),
        ("a {c}!", "cat", "a cat!"),
        ("{}", "{}", "{}"),
        ("a {} b", "{c}", "a {c} b"),
        ("{0} {x} {} {{}", "cat", "{0} {x} cat {{}"),
        ("{.__class__} {}", "cat", "{.__class__} cat"),
        (r"\1 {} %s $x", r"\g<0>", r"\1 \g<0> %s $x"),
    ],
)
def test_literal_filling(template: str, word: str, expected: str) -> None:
    """Only the placeholder is replaced; other braces, attributes, escapes and braces in labels are letters."""
    assert template_sets.fill(template, word) == expected


@pytest.mark.parametrize(
    ("template", "count"), [("x", 0), ("{ }", 0), ("{0}", 0), ("{}", 1), ("{c}", 1), ("{} {c}", 2)]
)
def test_placeholders(template: str, count: int) -> None:
    """``{}`` and ``{c}`` are placeholders, and nothing else is; a template has exactly one."""
    assert template_sets.placeholder_fault(template) == {0: "no placeholder", 1: "", 2: "2 placeholders"}[count]
    if count == 1:
        assert template_sets.from_templates([template]).templates == (template,)
    else:
        with pytest.raises(PromptError, match="placeholder"):
            template_sets.from_templates([template])


def test_prompts_of_a_label() -> None:
    """Every word in every template, word by word; a label's own prompts replace the templates; repeats go."""
    templates = TemplateSet("t", ("a {}", "the {}"))
    assert template_sets.prompts_for(Label("cat", ("kitty",)), templates) == (
        "a cat",
        "the cat",
        "a kitty",
        "the kitty",
    )
    own = Label("cat", ("kitty",), ("my {}", "a purring animal"))
    assert template_sets.prompts_for(own, templates) == ("my cat", "a purring animal", "my kitty")


def test_shipped_sets() -> None:
    """Every shipped set loads, says what it is, and has templates that pass the checks."""
    names = template_sets.list_names()
    assert {"plain", "photo", "general", "imagenet-80", "imagenet-7"} <= set(names)
    assert len(names) >= 12
    for name in names:
        found = template_sets.load_templates(name)
        assert found.name == name
        assert found.description
        assert found.templates
    assert template_sets.load_templates("plain").templates == ("{}",)


@pytest.mark.parametrize(
    ("name", "constant", "count"),
    [("imagenet-80", "OPENAI_IMAGENET_TEMPLATES", 80), ("imagenet-7", "SIMPLE_IMAGENET_TEMPLATES", 7)],
)
def test_published_sets(open_clip: ModuleType, name: str, constant: str, count: int) -> None:
    """The published sets, filled, are open_clip's own templates, filled."""
    found = template_sets.load_templates(name)
    theirs = [template("tench {}") for template in getattr(open_clip, constant)]
    assert [template_sets.fill(template, "tench {}") for template in found.templates] == theirs
    assert len(theirs) == count


def test_files(tmp_path: Path) -> None:
    """A file is a list of templates, or a mapping; its name is its own, or the file's."""
    path = tmp_path / "mine.yaml"
    path.write_text("- 'a {}'\n- no {c}\n")
    assert template_sets.load_templates(str(path)) == TemplateSet("mine", ("a {}", "no {c}"))
    path.write_text("name: ours\ndescription: d\nimages: p\ntemplates: ['a {}']\n")
    assert template_sets.load_templates(str(path)) == TemplateSet("ours", ("a {}",), "d", "p")


def test_hash_tells_sets_apart() -> None:
    """The hash depends on the templates and their order, not on the name."""
    first, second = TemplateSet("a", ("x {}", "y {}")), TemplateSet("b", ("x {}", "y {}"))
    assert first.sha256 == second.sha256
    assert first.sha256 != TemplateSet("a", ("y {}", "x {}")).sha256
    assert first.manifest()["sha256"] == first.sha256


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "expected a list"),
        ("a {}", "expected a list"),
        ("[]", "no templates"),
        ("templates: a {}", "not a list of sentences"),
        ("templates: [[a]]", "not a list of sentences"),
        ("template: ['a {}']", "unknown key 'template'; did you mean 'templates'?"),
        ("name: [x]\ntemplates: ['{}']", "name is not text"),
        ("source: open_clip.OPENAI_IMAGENET_TEMPLATES\ntemplates: ['{}']", "both templates and a source"),
        ("source: os.system", "unknown source"),
        ("source: open_clip.__builtins__", "unknown source"),
        ("source: open_clip.IMAGENET_CLASSNAMES", "unknown source"),
        ("source: open_clip.NO_TEMPLATES", "has no NO_TEMPLATES"),
        ("['a {}', 'a {}']", "is given twice"),
        ("['a {} of {c}']", "2 placeholders"),
        ("['a ( ']", "no placeholder"),
    ],
)
def test_files_refused(tmp_path: Path, text: str, what: str) -> None:
    """Each mistake in a set is one line that says what is wrong."""
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(PromptError) as caught:
        template_sets.load_templates(str(path))
    assert what in caught.value.message
    assert caught.value.hint


def test_unknown_name() -> None:
    """A mistyped name gives the nearest set; a path in the sets' folder is no name."""
    with pytest.raises(PromptError, match="did you mean 'general'"):
        template_sets.load_templates("genral")
    with pytest.raises(PromptError, match="no template set"):
        template_sets.load_templates("../prompts/general")
