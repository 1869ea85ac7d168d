"""A folder of images: which of its files are for what, what is said of it, and WebP."""

import io
import logging

import numpy as np
import pytest
import tensorflow as tf
from listening import logged
from loaded_data import all_of, message_of
from PIL import Image
from stored_datasets import write_digits, write_png

from mmx_tf.data import image_files, kinds
from mmx_tf.data.loading import load
from mmx_tf.errors import DataError
from mmx_tf.notation import some


def told_of(name, level=logging.INFO, **options):
    with logged(level) as lines:
        data = load(name, **options)
    return data, lines


def contents(batches):
    return sorted(image.tobytes() for image in all_of(batches)[0])


def test_train_val_and_test_are_taken_for_what_they_are(tmp_path):
    write_digits(tmp_path / "train", per_class=4)
    write_digits(tmp_path / "val", per_class=2, start=4)
    write_digits(tmp_path / "test", per_class=1, start=6)
    data, lines = told_of(f"folder:{tmp_path}")
    assert (data.train_images, data.validation_images, data.eval_images) == (40, 20, 10)
    assert lines == [
        f"folder:{tmp_path}: 10 classes, 40 images for training (train/), 10 images for evaluation (test/), "
        "20 images to judge epochs on (val/)"
    ]
    assert not data.source.held_out
    parts = [
        contents(batches)
        for batches in (
            data.train(batch_size=40, seed=0, augment=False), data.validation(batch_size=10),
            data.evaluation(batch_size=10),
        )
    ]  # fmt: skip
    for folder, found in zip(("train", "val", "test"), parts, strict=True):
        alone = tmp_path / f"only_{folder}"
        for half in ("train", "test"):
            (alone / half).parent.mkdir(exist_ok=True)
            (alone / half).symlink_to(tmp_path / folder)
        assert contents(load(f"folder:{alone}").evaluation(batch_size=10)) == found
    assert "20 images to judge epochs on already" in message_of(f"folder:{tmp_path}", validation_images=5)


def test_without_a_test_folder_some_are_held_out_and_it_says_so(tmp_path):
    write_digits(tmp_path / "flat", per_class=10)
    write_digits(tmp_path / "one" / "train", per_class=10)
    for root, where in (("flat", ""), ("one", " (train/)")):
        data, lines = told_of(f"folder:{tmp_path / root}")
        assert (data.train_images, data.eval_images, data.source.held_out) == (90, 10, True)
        assert lines == [
            f"folder:{tmp_path / root}: 10 classes, 90 images for training{where}, 10 images for evaluation: "
            "one in 10 of every class, the same in every run, since there is no folder test/"
        ]


def test_evaluation_images_without_training_images_are_refused(tmp_path):
    write_digits(tmp_path / "val", per_class=1)
    write_digits(tmp_path / "test", per_class=1)
    message = message_of(f"folder:{tmp_path}")
    assert "has test, val, but no train" in message and str(tmp_path / "train") in message


@pytest.mark.parametrize("part", ["test", "val", "valid", "validation", "Test"])
def test_a_part_beside_other_folders_without_train_is_no_class(tmp_path, part):
    write_digits(tmp_path / "training", per_class=2)
    write_digits(tmp_path / part, per_class=1)
    (tmp_path / "notes").mkdir()
    message = message_of(f"folder:{tmp_path}")
    found = ", ".join(sorted(["training", part, "notes"]))
    assert f"has {found}, but no train: " in message
    assert all(f"{name}/" in message for name in ("train", "val", "test"))


def test_a_class_may_have_another_name_such_as_training(tmp_path):
    for name in ("training", "latest"):
        write_png(tmp_path / name / "0.png", np.full((9, 9, 3), 7, np.uint8))
        write_png(tmp_path / name / "1.png", np.full((9, 9, 3), 8, np.uint8))
    assert load(f"folder:{tmp_path}").class_names == ("latest", "training")


def test_a_name_of_a_folder_that_is_here_is_asked_about_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("shapes", "My shapes"):
        write_digits(tmp_path / name, per_class=1)
        asked = f"{name!r} is a folder here: did you mean --dataset=folder:{name}? "
        with pytest.raises(DataError) as refused:
            kinds.check(name, data_dir=str(tmp_path / "none"))
        assert str(refused.value).startswith(asked) and message_of(name).startswith(asked)
    with pytest.raises(DataError, match="^The dataset circles is not prepared"):
        kinds.check("circles", data_dir=str(tmp_path / "none"))


def test_files_that_are_no_images_are_counted_and_the_first_named(tmp_path):
    write_digits(tmp_path, per_class=2)
    others = [tmp_path / "3" / name for name in ("a.txt", "b.tiff", "c.heic", "d.json", "e.avif", "f.npy")]
    for path in (*others, tmp_path / "3" / ".hidden", tmp_path / "4" / "Thumbs.db"):
        path.write_bytes(b"x")
    _, lines = told_of(f"folder:{tmp_path}", logging.WARNING)
    assert len(lines) == 1 and "7 files are no images by name (.jpg, " in lines[0]
    assert lines[0].endswith(f"left out: {some([str(path) for path in others], 5)}.")
    for path in others:
        path.unlink()
    _, lines = told_of(f"folder:{tmp_path}", logging.WARNING)
    assert "1 file is no image by its name" in lines[0] and lines[0].endswith("Thumbs.db.")


def write_webp(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, "WEBP", **options)


def test_webp_gives_the_pixels_that_png_gives(tmp_path):
    random = np.random.default_rng(0)
    for name in ("cat", "dog"):
        for index in range(3):
            pixels = random.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            pixels[0] = 0  # a file of pixels that ends with zeros
            write_png(tmp_path / "png" / name / f"{index}.png", pixels)
            # Beside each other: one of each class is another format.
            if index:
                write_webp(tmp_path / "webp" / name / f"{index}.WebP", pixels, lossless=True)
            else:
                write_png(tmp_path / "webp" / name / f"{index}.png", pixels)
    png, webp = (load(f"folder:{tmp_path / kind}", image_size=16) for kind in ("png", "webp"))
    assert (webp.train_images, webp.eval_images, webp.image_shape) == (4, 2, (16, 16, 3))
    for one, other in zip(
        all_of(png.train(batch_size=4, seed=0, augment=False)),
        all_of(webp.train(batch_size=4, seed=0, augment=False)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    # Large images are cropped out of the file anew in every epoch.
    large = load(f"folder:{tmp_path / 'webp'}", image_size=112)
    assert all_of(large.train(batch_size=4, seed=0))[0].shape == (4, 112, 112, 3)


def test_transparent_and_animated_webp_and_what_is_none():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 5, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    written = io.BytesIO()
    first, second = (Image.fromarray(frame) for frame in pixels)
    first.save(written, "WEBP", lossless=True, save_all=True, append_images=[second])
    bmp = image_files.as_bmp(written.getvalue())
    decoded = tf.io.decode_image(bmp, channels=3, expand_animations=False)
    np.testing.assert_array_equal(decoded, pixels[0, ..., :3])
    for other in (b"", b"RIFF....WEBPVP8 ", written.getvalue()[:60], tf.io.encode_png(pixels[0]).numpy()):
        assert image_files.as_bmp(other) == other


def test_a_damaged_webp_is_named(tmp_path):
    pixels = np.full((20, 20, 3), 7, np.uint8)
    for name in ("cat", "dog"):
        for index in range(3):
            write_webp(tmp_path / name / f"{index}.webp", pixels)
    broken = tmp_path / "dog" / "1.webp"
    broken.write_bytes(broken.read_bytes()[:20])
    message = message_of(f"folder:{tmp_path}")
    assert "1 file(s) cannot be decoded" in message and str(broken) in message


@pytest.mark.parametrize("kind", ["folder", "npz"])
def test_a_float_model_is_perhaps_judged_on_what_it_was_trained_on(tmp_path, kind):
    import tf_keras as keras

    from mmx_tf.recipe.recipe import Recipe
    from mmx_tf.run.float_network import load_or_build

    write_digits(tmp_path / "whole", per_class=10)
    for half in ("train", "test"):
        write_digits(tmp_path / "apart" / half, per_class=10 if half == "train" else 1, start=2)
    images = np.zeros((100, 8, 8, 1), np.float32)
    labels = np.arange(100) % 10
    np.savez(tmp_path / "whole.npz", x=images, y=labels)
    np.savez(tmp_path / "apart.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    inputs = keras.Input((8, 8, 1))
    dense = keras.layers.Dense(10)(keras.layers.Flatten()(keras.layers.Conv2D(2, 3)(inputs)))
    keras.Model(inputs, dense).save(tmp_path / "net.keras")
    for name, warned in (("whole", True), ("apart", False)):
        path = tmp_path / (f"{name}.npz" if kind == "npz" else name)
        recipe = Recipe.from_flagfile(f"--dataset={kind}:{path}\n--float_model={tmp_path / 'net.keras'}")
        data = load(recipe.dataset)
        with logged() as lines:
            load_or_build(recipe, data)
        words = f"is judged on 10 examples that are taken out of {kind}:{path}. If it was trained on all"
        assert [words in line for line in lines] == ([True] if warned else [])
