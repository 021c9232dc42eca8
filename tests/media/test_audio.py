from __future__ import annotations

import io
import tracemalloc
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from embedspace.errors import EmptyMediaError, MediaError, MediaTooLargeError
from embedspace.media.audio import (
    Resampler,
    audio_info,
    iter_audio,
    load_audio,
    resample_waveform,
    windows,
)
from embedspace.media.waveform import check_waveform
from embedspace.media.write import write_audio

Waveform = NDArray[np.float32]


def _sine(rate: int, seconds: float = 0.5, hertz: float = 440.0, peak: float = 0.5) -> Waveform:
    return (peak * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)).astype(np.float32)


def _encode(path: Path, waveform: Waveform, rate: int, codec: str, layout: str = "mono") -> Path:
    """Write a compressed file with FFmpeg, as other programs do."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate, layout=layout)
        frame = av.AudioFrame.from_ndarray(np.atleast_2d(waveform), format="fltp", layout=layout)
        frame.sample_rate = rate
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)
    return path


@pytest.mark.parametrize("rate", [1000, 8000, 11025, 22050, 44100, 44101, 48000, 96000, 200_000, 400_000])
def test_load_audio_any_rate_becomes_the_same_sound(rate: int, tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, _sine(rate, hertz=200), rate, subtype="FLOAT")
    audio = load_audio(path, sample_rate=16000)
    assert audio.sample_rate == 16000 and abs(len(audio.waveform) - 8000) <= 1 and audio.waveform.dtype == np.float32
    middle = slice(1500, 6500)  # away from the edges, where the filter meets silence
    assert np.abs(audio.waveform[middle] - _sine(16000, hertz=200)[middle]).max() < 2e-3


@pytest.mark.parametrize(
    ("suffix", "subtype"),
    [
        *((".wav", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "DOUBLE", "ULAW", "MS_ADPCM")),
        (".flac", "PCM_24"),
        (".aiff", "PCM_16"),
        (".ogg", "VORBIS"),
    ],
)
def test_load_audio_reads_every_sample_format(suffix: str, subtype: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, _sine(16000), 16000, subtype=subtype)
    waveform = load_audio(path).waveform[:8000]
    assert np.corrcoef(waveform, _sine(16000))[0, 1] > 0.99


@pytest.mark.parametrize(("suffix", "codec"), [(".mp3", "mp3"), (".m4a", "aac"), (".opus", "libopus"), (".mkv", "ac3")])
def test_load_audio_reads_compressed_files(suffix: str, codec: str, tmp_path: Path) -> None:
    path = _encode(tmp_path / f"a{suffix}", _sine(48000, 1.0), 48000, codec)
    for source in (path, path.read_bytes()):
        audio = load_audio(source, sample_rate=16000)
        assert abs(audio.seconds - 1.0) < 0.1
        spectrum = np.abs(np.fft.rfft(audio.waveform[2000:10000]))
        assert int(spectrum.argmax()) * 2 == 440


def test_load_audio_mixes_channels_down(tmp_path: Path, tone: Waveform) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([tone, np.zeros_like(tone)], axis=1), 16000, subtype="FLOAT")
    assert np.allclose(load_audio(path).waveform, tone / 2, atol=1e-6)
    soundfile.write(path, np.stack([tone] * 6, axis=1), 16000, subtype="FLOAT")
    assert audio_info(path).channels == 6
    assert np.allclose(load_audio(path).waveform, tone, atol=1e-6)
    soundfile.write(path, np.stack([tone, -tone], axis=1), 16000, subtype="FLOAT")
    assert np.allclose(load_audio(path).waveform, tone, atol=1e-6)  # opposite phases must not cancel


def test_load_audio_start_and_duration(tmp_path: Path) -> None:
    ramp = np.linspace(-0.9, 0.9, 48000, dtype=np.float32)
    path = tmp_path / "ramp.flac"
    soundfile.write(path, ramp, 16000, subtype="PCM_24")
    part = load_audio(path, start=1.0, duration=0.5)
    assert np.allclose(part.waveform, ramp[16000:24000], atol=1e-6)
    with pytest.raises(EmptyMediaError, match="nothing at 9 s"):
        load_audio(path, start=9.0)


def test_load_audio_start_and_duration_in_a_container(tmp_path: Path) -> None:
    steps = np.concatenate([_sine(48000, 1.0, hertz) for hertz in (300, 600, 900, 1200, 1500)])
    path = _encode(tmp_path / "steps.mka", steps, 48000, "libopus")
    audio = load_audio(path, sample_rate=16000, start=3.2, duration=0.5)
    assert abs(audio.seconds - 0.5) < 0.01
    assert int(np.abs(np.fft.rfft(audio.waveform)).argmax()) * 2 == 1200


def test_resample_is_transparent_below_and_silent_above_nyquist() -> None:
    middle = slice(1000, -1000)
    for hertz in (50, 1000, 5000, 6500):
        error = resample_waveform(_sine(44100, 1.0, hertz), 44100, 16000) - _sine(16000, 1.0, hertz)
        assert np.abs(error[middle]).max() < 2e-3, hertz
    for hertz in (8200, 9000, 15000, 21000):
        assert np.abs(resample_waveform(_sine(44100, 1.0, hertz), 44100, 16000)[middle]).max() < 1e-4, hertz


def test_resampler_blocks_do_not_change_the_result(rng: np.random.Generator) -> None:
    noise = rng.uniform(-0.5, 0.5, 20001).astype(np.float32)
    for rate in (44100, 48000, 8000, 44101):
        whole = resample_waveform(noise, rate, 16000)
        assert len(whole) == -(-20001 * 16000 // rate)
        stream = Resampler(rate, 16000)
        parts = [stream.push(noise[:1]), stream.push(noise[1:7000]), stream.push(noise[7000:]), stream.flush()]
        assert np.allclose(np.concatenate(parts), whole, atol=1e-6)


def test_windows_keep_the_tail_that_counts() -> None:
    assert windows(0, 10, 1, 1) == []
    assert windows(3, 10, 1, 1) == [(0, 3)]
    assert windows(10, 10, 1, 1) == [(0, 10)]
    assert windows(20, 10, 1, 1) == [(0, 10), (10, 20)]
    assert windows(200, 100, 1, 1)[-1] == (100, 200)
    assert windows(109, 100, 1, 1) == [(0, 100)]
    assert windows(110, 100, 1, 1) == [(0, 100), (100, 110)]
    assert windows(155, 100, 1, 0.5) == [(0, 100), (50, 150)]
    assert windows(165, 100, 1, 0.5) == [(0, 100), (50, 150), (100, 165)]
    with pytest.raises(ValueError, match="hop"):
        windows(10, 10, 1, 2)


@pytest.mark.parametrize("num_samples", [200, 16000, 17000, 40000, 41000, 48000, 63999])
@pytest.mark.parametrize("hop", [0.5, 1.0])
def test_iter_audio_cuts_as_windows_does(
    num_samples: int, hop: float, tmp_path: Path, rng: np.random.Generator
) -> None:
    noise = rng.uniform(-0.5, 0.5, num_samples).astype(np.float32)
    path = tmp_path / "a.wav"
    soundfile.write(path, noise, 16000, subtype="FLOAT")
    pieces = list(iter_audio(path, 16000, 1.0, hop))
    spans = windows(num_samples, 16000, 1.0, hop)
    assert [(round(start * 16000), round(end * 16000)) for start, end, _ in pieces] == spans
    for (first, last), (_, _, waveform) in zip(spans, pieces, strict=True):
        assert np.array_equal(waveform, noise[first:last])


def test_iter_audio_equals_load_audio_after_resampling(tmp_path: Path, rng: np.random.Generator) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, rng.uniform(-0.5, 0.5, 44100 * 7).astype(np.float32), 44100, subtype="FLOAT")
    whole = load_audio(path, sample_rate=16000).waveform
    streamed = np.concatenate([waveform for _, _, waveform in iter_audio(path, 16000, 2.0, 2.0)])
    assert np.array_equal(whole, streamed)


def test_iter_audio_skips_silent_windows(tmp_path: Path, tone: Waveform) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([np.zeros(32000, np.float32), tone, tone]), 16000)
    assert [start for start, _, _ in iter_audio(path, 16000, 1.0, 1.0)] == [2.0]
    assert len(list(iter_audio(path, 16000, 1.0, 1.0, skip_silent=False))) == 3


def test_iter_audio_reads_an_hour_in_constant_memory(tmp_path: Path) -> None:
    path = tmp_path / "hour.wav"
    with soundfile.SoundFile(path, "w", 8000, 1, "PCM_16") as file:
        minute = _sine(8000, 60.0)
        for _ in range(60):
            file.write(minute)
    tracemalloc.start()
    count = sum(1 for _ in iter_audio(path, 16000, 10.0, 10.0))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 360
    assert peak < 25e6  # the hour itself is 230 MB
    with pytest.raises(MediaTooLargeError, match="3600 s of sound, at most 1800 s"):
        load_audio(path)


def test_short_sounds_work_down_to_two_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "click.wav"
    soundfile.write(path, _sine(44100, 0.01), 44100)
    assert len(load_audio(path, sample_rate=16000).waveform) == 160
    assert len(list(iter_audio(path, 16000, 5.0, 5.0))) == 1


def _bad(path: Path, samples: object, rate: int = 16000) -> Path:
    soundfile.write(path, np.asarray(samples, np.float32), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        ([0.5], EmptyMediaError, r"only 0\.062 ms of sound in it, at least 2 ms are needed; record it again"),
        ([], EmptyMediaError, "no samples in it"),
        (np.zeros(16000), EmptyMediaError, "silent"),
        (np.full(16000, 5e-6), EmptyMediaError, "silent"),
        (np.r_[np.zeros(900), np.nan, np.zeros(900)], MediaError, "NaN or infinite"),
        (np.r_[np.ones(900), np.inf], MediaError, "NaN or infinite"),
        (np.r_[np.ones(900), 20000.0], MediaError, "full scale"),
    ],
)
def test_unusable_samples_are_one_clear_error(
    samples: object, error: type[MediaError], message: str, tmp_path: Path
) -> None:
    path = _bad(tmp_path / "bad.wav", samples)
    with pytest.raises(error, match=rf"bad\.wav: .*{message}"):
        load_audio(path, sample_rate=16000)
    with pytest.raises(error, match=message):
        list(iter_audio(path, 16000, 1.0, 1.0))


@pytest.mark.parametrize("rate", [100, 999, 400_001])
def test_rates_beyond_the_limits_are_refused(rate: int, tmp_path: Path) -> None:
    path = _bad(tmp_path / "odd.wav", np.full(5000, 0.1), rate)
    with pytest.raises(MediaError, match=rf"sample rate {rate} Hz; 1000 to 400000 Hz"):
        load_audio(path)


def test_load_audio_overshoot_is_clipped(tmp_path: Path) -> None:
    path = _bad(tmp_path / "hot.wav", 1.5 * np.sin(np.arange(8000) / 10))
    assert np.abs(load_audio(path).waveform).max() == 1.0


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.opus"])
def test_damaged_files_are_one_clear_error_or_what_can_be_heard(
    name: str, tmp_path: Path, rng: np.random.Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / name
    codecs = {".mp3": "mp3", ".m4a": "aac", ".opus": "libopus"}
    if path.suffix in codecs:
        _encode(path, _sine(48000, 2.0), 48000, codecs[path.suffix])
    else:
        soundfile.write(path, _sine(48000, 2.0), 48000)
    whole = path.read_bytes()
    damages = [whole[: len(whole) // 2], whole[:100], whole[:20], whole[:4], b"\0" * 500, whole[len(whole) // 2 :]]
    for _ in range(15):
        noisy = np.frombuffer(whole, np.uint8).copy()
        noisy[rng.integers(0, len(noisy), 30)] = rng.integers(0, 256, 30)
        damages.append(noisy.tobytes())
    for damaged in damages:
        path.write_bytes(damaged)
        try:
            audio = load_audio(path, sample_rate=16000)
        except MediaError as error:
            assert str(error).startswith(str(path)) and "\n" not in str(error)
        else:
            assert np.isfinite(audio.waveform).all() and np.abs(audio.waveform).max() <= 1.0
    assert capfd.readouterr().err == ""  # decoders keep their complaints to themselves


def test_load_audio_says_what_is_wrong(tmp_path: Path) -> None:
    words = tmp_path / "words.mp3"
    words.write_text("no music at all, " * 20)
    playlist = tmp_path / "list.mp3"
    playlist.write_text("#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/hostname\n#EXT-X-ENDLIST\n")
    for path in (words, playlist):
        with pytest.raises(MediaError, match="not a recording or video that can be read"):
            load_audio(path)
    with pytest.raises(MediaError, match="no such file"):
        load_audio(tmp_path / "missing.wav")
    with pytest.raises(MediaError, match="is a folder"):
        load_audio(tmp_path)
    (tmp_path / "empty.wav").touch()
    with pytest.raises(EmptyMediaError, match="0 bytes"):
        load_audio(tmp_path / "empty.wav")
    with pytest.raises(EmptyMediaError, match="no bytes"):
        load_audio(b"")


def test_a_name_with_a_colon_is_a_file(tmp_path: Path) -> None:
    path = _encode(tmp_path / "http:a.mp3", _sine(48000), 48000, "mp3")
    assert load_audio(path, sample_rate=16000).seconds > 0.4


def test_check_waveform_takes_what_callers_have(tone: Waveform) -> None:
    assert np.array_equal(check_waveform(tone, 16000), tone)
    assert np.allclose(check_waveform((tone * 32768).astype(np.int16), 16000), tone, atol=1e-4)  # type: ignore[arg-type]
    assert np.allclose(check_waveform(np.stack([tone, tone]), 16000), tone, atol=1e-6)
    assert np.allclose(check_waveform(np.stack([tone, tone], axis=1), 16000), tone, atol=1e-6)
    with pytest.raises(EmptyMediaError, match="silent"):
        check_waveform(np.zeros(16000, np.float32), 16000)
    with pytest.raises(MediaError, match="shape"):
        check_waveform(np.zeros((2, 2, 2), np.float32), 16000)
    with pytest.raises(MediaError, match="NaN"):
        check_waveform(np.full(16000, np.nan, np.float32), 16000)


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_write_audio_keeps_sound_and_metadata(suffix: str, tmp_path: Path, tone: Waveform) -> None:
    path = write_audio(tmp_path / f"a{suffix}", tone, 16000, {"title": "tone", "seed": "7"})
    assert np.corrcoef(load_audio(path).waveform[:8000], tone)[0, 1] > 0.99
    with soundfile.SoundFile(path) as file:
        assert file.title == "tone" and "seed: 7" in file.comment
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_write_audio_failure_leaves_nothing_behind(tmp_path: Path, tone: Waveform) -> None:
    with pytest.raises(MediaError, match="cannot be written"):
        write_audio(tmp_path / "missing" / "a.wav", tone, 16000)
    with pytest.raises(MediaError, match="NaN"):
        write_audio(tmp_path / "a.wav", np.full(9, np.nan, np.float32), 16000)
    with pytest.raises(MediaError, match=r"cannot write \.mp9"):
        write_audio(tmp_path / "a.mp9", tone, 16000)
    assert list(tmp_path.iterdir()) == []


def test_load_audio_from_bytes_equals_from_file(tmp_path: Path, tone: Waveform) -> None:
    stream = io.BytesIO()
    soundfile.write(stream, tone, 16000, format="WAV", subtype="FLOAT")
    assert np.array_equal(load_audio(stream.getvalue()).waveform, tone)
