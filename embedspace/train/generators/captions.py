"""Train the caption decoder on text vectors with noise, and on items' own vectors of other modalities."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn

from embedspace.encoders.base import save_tensors
from embedspace.files import replacing
from embedspace.generate.captions.decoder import BEGIN, END, PAD, CaptionDecoder, DecoderConfig
from embedspace.generate.conditioning import Condition, add_noise
from embedspace.train.generators.recipe import CaptionRecipe
from embedspace.train.generators.run import GeneratorRun, measured_sigma, write_generator_config
from embedspace.train.loop import fit

__all__ = ["caption_loss", "encode_captions", "make_vocabulary", "places_of", "train"]

_SPACE = "▁"  # what Metaspace puts before a word
_MARKS = ("<pad>", "<begin>", "<end>")
_VALIDATION = 512


def make_vocabulary(texts: list[str], size: int) -> Tokenizer:
    """Learn a byte-pair vocabulary whose first ids are the three marks.

    Args:
        texts: In lower case.
        size: Pieces, marks included.

    Source: Sennrich et al. 2016 (https://arxiv.org/abs/1508.07909), algorithm 1.
    """
    tokenizer = Tokenizer(models.BPE(byte_fallback=False, unk_token=None))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=list(_MARKS), show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def places_of(tokenizer: Tokenizer, texts: list[str], vectors: Tensor) -> Tensor:
    """Return where pieces lie in the space: (vocabulary, embed_dim) unit rows.

    A piece that is a word has that word's vector; another that begins words the mean of the texts it occurs in, with
    little ones weighing more. What only goes on with a word, or is in no text, has zeros: grammar brings it.

    Args:
        tokenizer: The vocabulary.
        texts: In lower case.
        vectors: (N, embed_dim) centred unit rows of them.
    """
    places = torch.zeros(tokenizer.get_vocab_size(), vectors.shape[1])
    coded = [encoded.ids for encoded in tokenizer.encode_batch(texts)]
    for row, ids in enumerate(coded):
        for piece in set(ids):
            places[piece] += vectors[row] / len(ids) ** 2
    for row, ids in enumerate(coded):
        if len(ids) == 1:
            places[ids[0]] = vectors[row]
    for name, number in tokenizer.get_vocab().items():
        if not name.startswith(_SPACE):
            places[number] = 0.0
    return F.normalize(places, dim=1)


def encode_captions(tokenizer: Tokenizer, texts: list[str], max_pieces: int) -> Tensor:
    """Return (N, max_pieces + 1) ids: BEGIN, the pieces, END, padding; longer captions are cut."""
    out = torch.full((len(texts), max_pieces + 1), PAD)
    for row, encoded in zip(out, tokenizer.encode_batch(texts), strict=True):
        pieces = [BEGIN, *encoded.ids[: max_pieces - 1], END]
        row[: len(pieces)] = torch.tensor(pieces)
    return out


def caption_loss(network: CaptionDecoder, ids: Tensor, condition: Condition) -> Tensor:
    """Return the mean cross-entropy of the pieces of captions (B, T + 1), padding left out."""
    longest = int((ids != PAD).sum(dim=1).max())
    ids = ids[:, :longest]
    logits = network(ids[:, :-1], condition)  # (B, T, vocabulary)
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD)


def train(run: GeneratorRun) -> None:
    """Train, and write the generator."""
    recipe = run.recipe.text
    sigma = measured_sigma(run)
    learnt = _read(run, sigma)
    torch.manual_seed(run.recipe.seed)
    network = _network(run, learnt)
    held = _validation(run, learnt.tokenizer, recipe.max_pieces, sigma)

    @torch.inference_mode()
    def evaluate(model: nn.Module) -> dict[str, float]:
        assert isinstance(model, CaptionDecoder)
        return {name: float(caption_loss(model, *batch)) for name, batch in held.items()}

    fit(
        network,
        lambda model, generator: _loss_of_step(recipe, learnt, model, generator),
        run.fit_config(recipe, recipe.steps),
        stage="text",
        checkpoint=run.out / "text.ckpt",
        resume=run.resume,
        evaluate=evaluate,
        callback=run.tell,
    )
    save_tensors(network, run.folder / "decoder.safetensors")
    _save_tokenizer(learnt.tokenizer, run.folder / "tokenizer.json", pretty=False)
    write_generator_config(run, {"decoder": dataclasses.asdict(network.config), "sigma": sigma})


@dataclass(frozen=True)
class _Learnt:
    """What the decoder learns from.

    Attributes:
        tokenizer: The vocabulary.
        texts: N captions in lower case.
        vectors: (N, embed_dim) centred unit rows of them.
        weights: (N,) how often each is drawn; 0 for those that are too long.
        ids: (N, max_pieces + 1) their pieces.
        own: Other modalities' vectors, their noise, and the numbers of their captions; None without any.
    """

    tokenizer: Tokenizer
    texts: list[str]
    vectors: Tensor
    weights: Tensor
    ids: Tensor
    own: tuple[Tensor, Tensor, Tensor] | None


def _read(run: GeneratorRun, sigma: dict[str, float]) -> _Learnt:
    recipe = run.recipe.text
    keep = [k for k, kind in enumerate(run.texts.kinds) if recipe.weights.get(kind, 0.0) > 0]
    texts = [run.texts.texts[k] for k in keep]
    tokenizer = _vocabulary(run, texts)
    weights = torch.tensor([recipe.weights[run.texts.kinds[k]] for k in keep])
    # a few long titles would make every batch several times as long
    whole = [len(encoded.ids) < recipe.max_pieces for encoded in tokenizer.encode_batch(texts)]
    own = _own_pairs(run, {text: k for k, text in enumerate(texts)}, "train", sigma)
    vectors = torch.from_numpy(run.texts.vectors[keep])
    ids = encode_captions(tokenizer, texts, recipe.max_pieces)
    return _Learnt(tokenizer, texts, vectors, weights * torch.tensor(whole), ids, own)


def _vocabulary(run: GeneratorRun, texts: list[str]) -> Tokenizer:
    """Learn the vocabulary, or read the one that a resumed run began with."""
    path = run.out / "tokenizer.json"
    if run.resume and path.is_file():
        return Tokenizer.from_file(str(path))
    tokenizer = make_vocabulary(texts, run.recipe.text.vocabulary)
    _save_tokenizer(tokenizer, path)
    return tokenizer


def _save_tokenizer(tokenizer: Tokenizer, path: Path, pretty: bool = True) -> None:
    with replacing(path) as partial:
        tokenizer.save(str(partial), pretty=pretty)


def _network(run: GeneratorRun, learnt: _Learnt) -> CaptionDecoder:
    recipe = run.recipe.text
    config = DecoderConfig(
        embed_dim=learnt.vectors.shape[1],
        vocabulary=learnt.tokenizer.get_vocab_size(),
        width=recipe.width,
        layers=recipe.layers,
        heads=recipe.heads,
        prefix=recipe.prefix,
        max_pieces=recipe.max_pieces,
        dropout=recipe.dropout,
    )
    network = CaptionDecoder(config)
    network.places.copy_(places_of(learnt.tokenizer, learnt.texts, learnt.vectors))
    return network


def _loss_of_step(recipe: CaptionRecipe, learnt: _Learnt, model: nn.Module, generator: torch.Generator) -> Tensor:
    assert isinstance(model, CaptionDecoder)
    own = learnt.own
    others = int(recipe.batch_size * recipe.own) if own is not None else 0
    rows = torch.multinomial(learnt.weights, recipe.batch_size - others, replacement=True, generator=generator)
    size = torch.rand(len(rows), generator=generator) * recipe.max_sigma
    given, targets = add_noise(learnt.vectors[rows], size, generator), rows
    if own is not None and others:
        picked = torch.randint(len(own[0]), (others,), generator=generator)
        given = torch.cat([given, own[0][picked]])
        size = torch.cat([size, own[1][picked]])
        targets = torch.cat([targets, own[2][picked]])
    condition = Condition(given, size)
    dropped = torch.rand(len(given), generator=generator) < recipe.drop
    return caption_loss(model, learnt.ids[targets], condition.drop_rows(dropped))


def _own_pairs(
    run: GeneratorRun, index: dict[str, int], split: str, sigma: dict[str, float]
) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return other modalities' vectors (N, D), their noise (N,), and the number of their caption (N,)."""
    vectors, sizes, targets = [], [], []
    for modality in ("image", "audio", "speech"):
        own = run.own(modality)
        if own is None:
            continue
        for vector, row in zip(*own.of_split(split), strict=True):
            number = index.get(" ".join(row["captions"][0].casefold().split())) if row.get("captions") else None
            if number is not None:
                vectors.append(vector)
                sizes.append(sigma[modality])
                targets.append(number)
    if not vectors:
        return None
    return torch.from_numpy(np.stack(vectors)), torch.tensor(sizes), torch.tensor(targets)


def _validation(
    run: GeneratorRun, tokenizer: Tokenizer, max_pieces: int, sigma: dict[str, float]
) -> dict[str, tuple[Tensor, Condition]]:
    """Return batches of the validation split: its captions from their own vectors, and from pictures' vectors."""
    out: dict[str, tuple[Tensor, Condition]] = {}
    rows = [r for r in run.rows if r.get("split") == "val" and r.get("captions") and r["captions"][0] in run.vectors]
    names = sorted({row["captions"][0] for row in rows})[:_VALIDATION]
    if names:
        given = torch.from_numpy(np.stack([run.vectors[name] for name in names]))
        out["val_text"] = (encode_captions(tokenizer, names, max_pieces), Condition(given, torch.zeros(len(names))))
    own = run.own("image")
    if own is not None:
        vectors, held = own.of_split("val")
        if len(held):
            ids = encode_captions(tokenizer, [row["captions"][0] for row in held], max_pieces)
            out["val_image"] = (ids, Condition(torch.from_numpy(vectors), torch.full((len(held),), sigma["image"])))
    return out
