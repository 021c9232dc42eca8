"""Fit a connector: two spaces that share only text become one, learnt from what both say of the same texts.

    fitted = fit_connector(clap.encode_text(texts), clip.encode_text(texts), media={"audio": clap.encode_audio(files)})
    print(fitted.report)                       # recall from text to text, on texts that the fit did not see
    save_connector(fitted.connector, folder, "clap")
    rows = load_connector(folder, "clap").connect(clap.encode_audio(sounds), "audio")   # search clip's pictures by them

| method | base | shared texts |
|---|---|---|
| procrustes | the rotation nearest to all pairs | |
| ridge | the linear map of least squared error | |
| anchors | none | what the nearest ones are in the target |
| blend | the rotation | beside it by a share, what the nearest ones are |
| sparse | the rotation, of what the texts leave | a sparse combination of the nearest ones makes up the row |
| mlp | the rotation and a residual MLP, trained by InfoNCE | |

Texts that lie near the unlabelled media count more: a map should be best where it is used. On drawings of a vendor
never trained on, the rotation of a thousand texts chosen so (`nearest_texts`) was as good as that of twelve thousand.

Everything is deterministic by the seed. What is chosen (ridge, temperature, share) is chosen on texts that are held
out of the fit; then all texts are fitted with it.

Sources:
    Schönemann 1966, A generalized solution of the orthogonal Procrustes problem (procrustes); Hoerl and Kennard 1970
    (ridge); Tibshirani 1996 and Bhalla et al. 2024, SpLiCE (sparse: a CLIP's row as few words), Roweis and Saul 2000
    (weights that make up a row hold in another space, too); Wang et al. 2023, Connecting Multi-modal Contrastive
    Representations (C-MCR: texts alone, a memory read out by a softmax, noise); TextME 2026 (centres of unlabelled
    media, a 2-layer MLP, InfoNCE with a window of negatives).
"""

from __future__ import annotations

from embedspace.train.connect.fit import fit_connector
from embedspace.train.connect.maps import negatives_outside, procrustes, ridge
from embedspace.train.connect.settings import ConnectReport, ConnectSettings, FittedConnector
from embedspace.train.connect.texts import composing_texts, nearest_texts, withhold

__all__ = [
    "ConnectReport",
    "ConnectSettings",
    "FittedConnector",
    "composing_texts",
    "fit_connector",
    "nearest_texts",
    "negatives_outside",
    "procrustes",
    "ridge",
    "withhold",
]
