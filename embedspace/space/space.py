"""The embedding space: media in, `(N, embed_dim)` unit rows out.

space = EmbeddingSpace.from_pretrained()
vectors = space.encode(["dog.png", "bark.wav", "a dog barking"])
space.similarity(vectors, vectors)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from embedspace.calibration.model import Calibration
from embedspace.errors import InputError
from embedspace.modality import Modality
from embedspace.space.variants import SetOtherwise

if TYPE_CHECKING:
    from embedspace.generate.api import Generators
    from embedspace.generate.pretrained.head import Head
    from embedspace.generate.soundtrack import Soundtrack
    from embedspace.space.recipe import ComposeRecipe

__all__ = ["EmbeddingSpace"]


class EmbeddingSpace(SetOtherwise):
    """One vector space for images, sounds, texts, speech and whatever else it has an encoder for.

    Make it with `from_pretrained`, `compose` or `from_towers`; an encoder's weights load when it is first used, so a
    text search never opens the image networks. Methods may be called from several threads.
    """

    @classmethod
    def from_pretrained(
        cls, name_or_path: str | Path | None = None, *, device: str = "cpu", download: bool = False
    ) -> EmbeddingSpace:
        """Open a space.

        Args:
            name_or_path: Folder that `save` or a training wrote, or the name of a preset of composed towers; None,
                or "default", is the space that ships with the package.
            device: Where the networks run: "cpu", "cuda", "cuda:1", "mps".
            download: Whether towers may be fetched that are not on this machine; else nothing is ever downloaded.

        Raises:
            ArgumentError: If there is no such device.
            WeightsError: If there is no space in the folder, or one of another format.
            ConfigError: If its configuration names an unknown modality or type.
        """
        from embedspace.space.open import open_space

        return open_space(cls, name_or_path, device, download=download)

    @classmethod
    def compose(
        cls,
        config: ComposeRecipe | Mapping[str, Any] | str | Path,
        *,
        download: bool = False,
        device: str = "cpu",
        callback: Callable[[str], None] | None = None,
    ) -> EmbeddingSpace:
        """Make one space of several pretrained towers that share nothing but text.

        The anchor's vectors stay as they are; every other tower is connected to it by what both say of the same texts.
        Without validation pairs searches show cosines and no probabilities.

        Args:
            config: TOML file, or what one holds; see `embedspace.space.recipe`. Relative paths in a mapping begin in
                the current folder.
            download: Whether libraries may fetch what is not on this machine; without it nothing is downloaded.
            device: Where the networks run.
            callback: Told, in a few words, what is being done.

        Raises:
            ConfigError: If a key, a tower or an option is unknown, or a tower is not connected.
            WeightsError: If weights are missing or damaged, or would have to be downloaded.
            InputError: If there are too few texts, media or pairs.
        """
        from embedspace.space.open import compose_space

        return compose_space(cls, config, device, download=download, told=callback)

    @classmethod
    def from_towers(
        cls,
        *,
        calibration: Calibration | None = None,
        device: str = "cpu",
        **towers: Any,  # noqa: ANN401
    ) -> EmbeddingSpace:
        """Make a space of modules or functions in memory whose rows lie in one space already.

        Args:
            calibration: Means and probabilities; none: searches show cosines alone.
            device: Where modules run.
            towers: Modality -> a `Tower`, or a module or function as `embedspace.space.live.LiveTower` takes it: called
                with a list of N texts, RGB pictures of PIL or (T,) waveforms, it returns (N, width). Its rows are
                brought to unit length.

        Raises:
            InputError: If one is no module, or their widths differ.
            UnknownModalityError: If there is no such modality, or a tower does not take it.
        """
        from embedspace.space.open import space_of_towers

        return space_of_towers(cls, towers, calibration, device)

    def save(self, path: str | Path, *, copy_towers: bool = False) -> Path:
        """Write weights, configuration and calibration into a folder that `from_pretrained` opens.

        Towers of a composed space are stored as references, with revision and digests of their files.

        Args:
            path: The folder; made if it is missing.
            copy_towers: Store copies of the towers' files beside, so that the folder needs nothing else.

        Returns:
            The folder.

        Raises:
            ConfigError: If a tower is a module in memory, or of a kind that cannot be copied.
        """
        from embedspace.space.save import save_space

        save_space(self, Path(path), copy_towers=copy_towers)
        return Path(path)

    def names(
        self, vectors: NDArray[np.float32], modality: Modality | str = "image", k: int = 5
    ) -> list[list[tuple[str, float]]]:
        """Say what things may be called: zero-shot tagging with the names of the training items.

        Args:
            vectors: (N, embed_dim) unit rows, as `encode` gives them.
            modality: Modality of all of them.
            k: Names for each.

        Returns:
            For each row its nearest names with shares that sum to one, nearest first; none where this space came
            without the names, which its generators use as well.
        """
        from embedspace.vocabulary import generators_folder, names_of, vocabulary_of

        vocabulary = vocabulary_of(generators_folder(self.folder, composed=self.is_composed), self.embed_dim)
        return names_of(vocabulary, vectors, str(modality), k, self.calibration.means)

    def unknown_words(self, text: str) -> list[str]:
        """Return the parts of a text that the text encoder does not know, each once, in order.

        It reads English in Latin script. Emoji and most of Chinese are unknown to it, and what is unknown looks all
        alike: a text of nothing else has a vector that means nothing.

        Args:
            text: Any length.
        """
        return list(dict.fromkeys(self.encoder(Modality.TEXT).unknown(text)))

    def for_documents(self, vectors: NDArray[np.float32], modality: Modality | str = "image") -> NDArray[np.float32]:
        """Make the vectors that find documents (recipes, articles: fields and long passages) rather than captions.

        A picture's vector lies near those of short names, and long texts lie elsewhere. Each name that it may have
        finds the texts about what it names, and a document is as likely as its name is, times how well it fits the
        name: a picture that may be a pie or a pizza finds recipes of both. Among captions that finds less.

        Args:
            vectors: (N, embed_dim) unit rows, as `encode` gives them.
            modality: Modality of all of them.

        Returns:
            (N, K, embed_dim): for each row what it may be read as, likeliest first. The direction of a reading is a
            vector, its length the reading's share. Pictures have up to twenty; anything else one, itself, and
            everything where this space came without the names, which its generators use as well.

        Source: a query as a distribution over names, each searched as itself: Norouzi et al. 2014 (ConSE,
            https://arxiv.org/abs/1312.5650) mixes the names' vectors, here their hits are mixed.
        """
        from embedspace.vocabulary import generators_folder, readings_of, vocabulary_of

        vocabulary = vocabulary_of(generators_folder(self.folder, composed=self.is_composed), self.embed_dim)
        return readings_of(vocabulary, vectors, str(modality), self.calibration.means)

    @functools.cached_property
    def generators(self) -> Generators:
        """The generators of this space by what they make, as in `space.generators["image"]`; loaded when first used."""
        from embedspace.generate.api import Generators

        return Generators(self)

    def generate(
        self,
        vectors: NDArray[np.float32],
        *,
        to: Modality | str,
        modality: str | Sequence[str] = "text",
        neighbours: int = 0,
        force: bool = False,
        head: Head | str | None = None,
        **request: Any,  # noqa: ANN401 - the fields of a Request, checked there
    ) -> list[list[Any]]:
        """Turn vectors into images, sounds, texts or speech.

        Args:
            vectors: (embed_dim,) or (N, embed_dim), as `encode` gives them.
            to: Target modality.
            modality: Which encoder made all of them, or each; "mixed" for a composed query that was centred.
            neighbours: So many nearest training items with each sample.
            force: Also generate from a vector that is far from everything known.
            head: A published generator in place of the space's own: "diffusers:<folder or name>", or an
                `embedspace.generate.Head` with options.
            request: Fields of `embedspace.generate.Request`: num_samples, seed, guidance_scale, edit, ...

        Returns:
            Result i holds the `embedspace.generate.Sample`s of vectors[i].

        Raises:
            InputError: If the vectors are none of this space, or the request asks for the impossible.
            OutsideError: If a vector is far from everything that the generators know, without `force`.
            WeightsError: If this space has no generator of the target.
        """
        from embedspace.generate import Request, generate

        try:
            asked = Request(**request)
        except TypeError as error:
            raise InputError(f"generate: {error}; see embedspace.generate.Request") from None
        return generate(
            self, vectors, to=to, modality=modality, request=asked, neighbours=neighbours, force=force, head=head
        )

    def soundtrack(self, film: str | Path, **options: Any) -> Soundtrack:  # noqa: ANN401 - checked there
        """Make the sound of a silent film: events where something strikes in it, of what that means.

        Args:
            film: A video file.
            options: As of `embedspace.generate.soundtrack.soundtrack_of`: seed, sounds, film_sound, ...

        Returns:
            The sound; its `write("scored.mp4")` writes it with the film, whose pictures are copied.

        Raises:
            EmptyMediaError: If the file has no pictures, or nothing moves in it.
            MediaError: If it cannot be decoded.
            WeightsError: If this space lacks what is needed.
        """
        from embedspace.generate.soundtrack import soundtrack_of

        try:
            return soundtrack_of(film, self, **options)
        except TypeError as error:
            raise InputError(f"soundtrack: {error}; see embedspace.generate.soundtrack.soundtrack_of") from None

    @staticmethod
    def similarity(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the (N, M) cosines of unit rows (N, embed_dim) and (M, embed_dim)."""
        cosines: NDArray[np.float32] = (
            np.atleast_2d(np.asarray(a, np.float32)) @ np.atleast_2d(np.asarray(b, np.float32)).T
        )
        return cosines
