"""Class labels from text, and their names."""

import numpy as np
import pytest

from diffusion_jax.generation import class_labels

NAMES = ["tench, Tinca tinca", "crane", "Crane", "crane, machine", "maillot", "maillot, tank suit"]


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("tench, Tinca tinca,3", [0, 3]),
        ("3,TENCH ,  tinca   TINCA", [3, 0]),
        ("tench,tench", [0, 0]),
        ("crane", [1]),
        ("Crane", [2]),
        ("crane, machine,Maillot, Tank Suit,maillot,0", [3, 5, 4, 0]),
        ("Maillot,5", [4, 5]),
    ],
)
def test_names_may_have_commas_and_any_case(text, wanted):
    assert class_labels.parse_list(text, 6, NAMES) == wanted


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CRANE", "'CRANE' is the name of several classes; give a number of 1, 2"),
        ("tensh", "Unknown label 'tensh'; did you mean 'tench, Tinca tinca'"),
        ("tench,tank suite", "Unknown label 'tank suite'"),
        ("9", "Unknown label '9'; known: 0 to 5, or names such as tench"),
        ("0,,1", "Unknown label ''"),
        ("crane,-1", "Unknown label '-1'"),
    ],
)
def test_errors_suggest_the_nearest_name(text, message):
    with pytest.raises(ValueError, match=message):
        class_labels.parse_list(text, 6, NAMES)


def test_captions_and_descriptions_of_labels():
    labels = np.array([1, 6, 1], np.int32)
    assert class_labels.captions(labels, 6, NAMES) == ["crane", "none", "crane"]
    assert class_labels.captions(labels, 6, []) == ["1", "none", "1"]
    assert class_labels.captions(np.array([6, 6]), 6, NAMES) == []
    assert class_labels.captions(np.array([0, 0]), 0, []) == []
    about = {"count": 3, "labels": [1, 6, 1], "names": {"1": "crane", "6": "none"}}
    assert class_labels.label_settings(labels, 6, NAMES) == about
    assert class_labels.label_settings(np.zeros(3, np.int32), 0, []) == {"count": 3}


def test_file_names_have_index_label_and_ascii_name():
    def name(text):
        return class_labels.file_name(12, 207, text)

    assert name("golden retriever") == "000012_label207_golden_retriever.png"
    assert name("tench, Tinca/../tinca ") == "000012_label207_tench_Tinca_tinca.png"
    assert name("Größe") == "000012_label207_Grosse.png"
    assert name("大熊猫") == "000012_label207_DaXiongMao.png"
    assert name("") == name("207") == "000012_label207.png"
    assert len(name("x" * 300)) < 90
