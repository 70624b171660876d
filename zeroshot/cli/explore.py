"""``zeroshot explore``: a page on which labels are typed and images sort themselves."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import ExitCode, ImageError, InputError, UsageError, ZeroshotError
from ..system import signals
from ..system.installed import how_to_install
from . import console, option_groups, options
from .label_options import LearnedLabelOptions, read_labels, read_learned, read_templates
from .model_options import ModelOptions
from .pipeline_options import ImageOptions

if TYPE_CHECKING:
    from ..evaluation.learned_file import LearnedFile
    from ..explore.background_encoding import Encoding
    from ..explore.request_handlers import Beginning

_SECRET = "python3 -c 'import secrets; print(secrets.token_urlsafe())' makes one"

_OPEN_ARCHIVES = 32
"""Archives that stay open, for the page shows images of any of them; a tar of a store is a temporary file each."""

_LOOK = 0.5
"""Seconds between two looks for a signal."""

_SOON = 1.0
"""Seconds, after which what is waited for is said."""


@console.reports_errors
@option_groups.expand_option_groups
def explore(
    folder: Annotated[
        str,
        typer.Argument(
            help="A folder of images, an archive (.tar, .zip, .parquet), or a prefix of a store (s3://bucket/imgs/).",
            metavar="DIR|ARCHIVE|PREFIX",
            show_default=False,
        ),
    ],
    archives: options.Archives = False,
    allow_private_hosts: options.AllowPrivateHosts = False,
    threshold: options.Threshold = None,
    calibration: options.Calibration = None,
    score: options.ScoreOption = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            "--corrections",
            help="Append corrections to this table, which `eval --targets` reads. [default: in the user's data folder]",
            metavar="FILE.csv",
            rich_help_panel=options.Panel.OUTPUT,
        ),
    ] = None,
    no_open: Annotated[
        bool,
        typer.Option("--no-open", help="Print the address, and open no browser.", rich_help_panel=options.Panel.OUTPUT),
    ] = False,
    port: Annotated[
        int,
        typer.Option(
            "--port",
            min=0,
            max=65535,
            help="Listen here; 0 takes a free port.",
            rich_help_panel=options.Panel.ADVANCED,
        ),
    ] = 0,
    host: Annotated[
        str | None,
        typer.Option(
            "--host",
            help="Listen on another address than 127.0.0.1; needs --token.",
            metavar="HOST",
            rich_help_panel=options.Panel.ADVANCED,
        ),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            help="The secret in the address, not a random one: 16 letters, digits, - or _ at least. $ZEROSHOT_TOKEN "
            "gives it unseen by other users of this machine.",
            envvar="ZEROSHOT_TOKEN",
            show_envvar=False,
            metavar="SECRET",
            rich_help_panel=options.Panel.ADVANCED,
        ),
    ] = None,
    *,
    labels: LearnedLabelOptions,
    model: ModelOptions,
    images: ImageOptions,
) -> ExitCode:
    """Open a page on which images sort themselves as labels are typed.

    It prints one address, opens the browser, and serves until Ctrl-C. Only this machine can reach it, and only with
    the address that is printed. Images are encoded while the page is open. Nothing is written but features in
    the cache, the address for a second `explore`, corrections, and what the page is told to: exports, and sorting into
    folders, which can be taken back.
    """
    _check_server()
    _check_token(host, token)
    _check_place(folder, archives=archives, private=allow_private_hosts)
    learned = read_learned(labels.learned)
    options_given = [*option_groups.as_words(replace(model, export=False)), *option_groups.as_words(images)]
    options_given += ["--archives"] * archives + ["--allow-private-hosts"] * allow_private_hosts
    beginning = _begin(labels, learned, threshold, tuple(options_given))
    if calibration is not None:
        from ..evaluation.calibration_file import read_calibration

        read_calibration(calibration)

    from ..explore.background_encoding import Encoding
    from ..explore.collection import Collection
    from ..explore.corrections import Corrections
    from ..explore.routes import Application
    from ..explore.security import Token
    from ..explore.server import bind, serving
    from ..explore.session import Session
    from ..explore.single_instance import Instance, state_folder

    with ExitStack() as stack:
        instance = Instance(folder)
        stack.callback(instance.close)
        kept = Corrections(corrections or state_folder(folder) / "corrections.csv")
        stack.callback(kept.close)
        place = bind(host or "127.0.0.1", port)
        stack.callback(place.listener.close)
        pipeline = images.pipeline()
        encoder = model.load_for(None, learned)
        collection = Collection(folder, encoder.spec.dim, archives=archives)
        session = Session(encoder, collection, kept, pipeline, score, calibration, learned)
        secret = Token(token)
        session.encoding = Encoding(collection, encoder, pipeline)
        stack.callback(_end, session.encoding)
        try:
            stack.enter_context(serving(Application(session, secret, beginning), place))
            session.encoding.begin()
            address = f"{place.address}#token={secret.value}"
            instance.publish(address)
            typer.echo(address)
            console.say("zeroshot: Ctrl-C ends it")
            if not no_open:
                import webbrowser

                webbrowser.open(address)
            with signals.kept():
                _show_progress(session.encoding, collection)
                end = threading.Event()
                while not end.wait(_LOOK):  # without end, a signal that comes as it begins would not wake it
                    pass
        except KeyboardInterrupt as stop:
            if type(stop) is not KeyboardInterrupt:  # SIGTERM, a hang-up
                raise
            console.say(f"zeroshot: ended; corrections are in {kept.path}" if kept.all() else "zeroshot: ended")
    return ExitCode.OK


def _end(encoding: Encoding) -> None:
    if not encoding.stop(_SOON):
        console.say("zeroshot: the batch in hand is read and encoded to its end; Ctrl-C again does not wait for it")


def _check_server() -> None:
    """Refuse to begin without what serves the page.

    Raises:
        ZeroshotError: It is not installed.
    """
    try:
        import starlette  # noqa: F401 - only whether it is there
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise ZeroshotError(
            f"the live page needs a package that is missing: {error.name}", how_to_install("explore")
        ) from error


def _check_token(host: str | None, token: str | None) -> None:
    from ..explore.security import MIN_TOKEN

    if host is not None and token is None:
        raise UsageError(f"--host {host} lets other machines in, and needs a secret", f"--token, and {_SECRET}")
    plain = token is None or (token.isascii() and token.replace("-", "").replace("_", "").isalnum())
    if token is not None and (len(token) < MIN_TOKEN or not plain):
        raise UsageError(f"--token: at least {MIN_TOKEN} letters, digits, hyphens and underscores are needed", _SECRET)


def _check_place(given: str, *, archives: bool, private: bool) -> None:
    """Refuse what holds no images before the model is loaded; a folder may be empty yet.

    Raises:
        InputError: It is one image, cannot be read, or holds none.
        UsageError: It is an address that holds a secret.
    """
    from ..images.paths import check_inputs, find_images, names_folder
    from ..images.sources.address_secrets import check_address
    from ..images.sources.archive_cache import keep_open
    from ..images.sources.connections import allow_private_hosts
    from ..images.sources.image_names import STORE_SCHEMES, is_archive, scheme_of, split_member

    check_address(given)
    keep_open(_OPEN_ARCHIVES)
    if names_folder(given):
        return
    one_archive = is_archive(given) and not split_member(given)
    if not one_archive and (scheme_of(given) not in STORE_SCHEMES or split_member(given)):
        raise InputError(
            f"{given} is not a folder, an archive (.tar, .zip, .parquet) or a prefix of a store", "name one of these"
        )
    if private:
        allow_private_hosts(True)
    if scheme_of(given) and (one_archive or archives):
        console.say(f"zeroshot: reading {given}")  # of a tar, and from a web server, all of it is fetched
    damage = _open_archive(given) if one_archive else ""
    check_inputs([given], archives=archives)
    if next(find_images([given], archives=archives), given) == given:
        if one_archive:
            if damage:
                raise InputError(f"cannot read {given}: {damage}", "copy or create the archive again")
            raise InputError(f"no images in {given}", "images are found by their ending")
        raise InputError(f"{given} is one object, not a prefix of a store", "name a prefix, such as s3://bucket/imgs/")


def _open_archive(given: str) -> str:
    """Open the archive, and return what is wrong with a part of it.

    Raises:
        InputError: It cannot be read at all.
    """
    from ..images.sources.archive_cache import open_archive
    from ..images.sources.image_names import scheme_of
    from ..images.sources.stores import hint_of

    try:
        return open_archive(given).damage
    except ImageError as error:
        hint = hint_of(error) if scheme_of(given) else "check the path, and that the file is whole"
        raise InputError(f"cannot read {given}: {error.message}", hint) from error


def _begin(
    labels: LearnedLabelOptions, learned: LearnedFile | None, threshold: float | None, given: tuple[str, ...]
) -> Beginning:
    """Return what the page shows first: the labels and templates that were given, else the learned ones.

    Args:
        labels: What was given.
        learned: Learned weights.
        threshold: Below it an image is unknown; None for that of the calibration, or 0.
        given: Options of the model and of opening images, as they would be typed.
    """
    from ..explore.label_text import to_typed
    from ..explore.request_handlers import Beginning
    from ..prompts.template_sets import DEFAULT

    named = labels.labels is not None or labels.labels_file is not None or learned is not None
    label_set = read_labels(labels.labels, labels.labels_file, learned) if named else None
    template_set = read_templates(labels.prompts, labels.template, learned)
    # Learned templates are shown one by one: the set of their name may have changed since.
    own = bool(labels.template) or (learned is not None and not labels.prompts)
    templates = template_set.templates if own else ()
    typed = to_typed(label_set) if label_set else ""
    return Beginning(typed, labels.prompts or DEFAULT, templates, threshold, given)


def _show_progress(encoding: Encoding, collection: Any) -> None:
    """Show on a terminal how far encoding is, until it is done."""
    with console.Bar("images") as bar:
        done, ended = 0, False
        while not ended:
            ended = encoding.wait(0.2)
            progress = collection.progress
            bar.advance(progress.encoded + progress.failed - done)
            done = progress.encoded + progress.failed
    progress = collection.progress
    failed = f", {progress.failed} could not be read" if progress.failed else ""
    console.say(f"zeroshot: {progress.encoded} images{failed}" + (f"; {progress.note}" if progress.note else ""))
