"""Class labels from text, and their names."""

from pathlib import Path

import numpy as np
import pytest
from forks import run_each

from diffusion_jax.generation import class_labels
from scripts.cli import class_flag

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
        ("CRANE", "'CRANE' is the name of several classes; give one of #1, #2"),
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


NUMBERED = ["1", "10", "11", "2", "3"]  # a folder of classes, in the order of their labels


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("1,2,3,10,11", [0, 3, 4, 1, 2]),
        ("#0,#1,#4", [0, 1, 4]),
        ("=10,#10", None),
        ("4", None),
        ("0", None),
        ("03", None),
    ],
)
def test_numbers_are_names_where_names_are_numbers(text, wanted):
    if wanted is None:
        with pytest.raises(ValueError, match=r"Unknown label .*#0 to #4.* 1, 10, 11, 2, 3"):
            class_labels.parse_list(text, 5, NUMBERED)
    else:
        assert class_labels.parse_list(text, 5, NUMBERED) == wanted


@pytest.mark.parametrize(
    "names", [["2019", "2020", "2021"], ["-1", "0.5", "a"], ["cat", "dog", "7"], ["01", "02", "03"]]
)
def test_a_number_is_no_index_where_a_single_name_is_a_number(names):
    for text in ("0", "1", "2"):
        with pytest.raises(ValueError, match=f"#{text} is an index"):
            class_labels.parse_list(text, 3, names)
        assert class_labels.parse_list(f"#{text}", 3, names) == [int(text)]


def test_numbers_are_indices_where_no_name_is_a_number():
    assert class_labels.parse_list("2,#1", 3, ["cat", "dog", "class 7"]) == [2, 1]
    assert class_labels.parse_list("2,#1", 3, []) == [2, 1]
    for text in ("#3", "3", "#-1", "#", "9" * 5000, "#" + "9" * 5000):
        with pytest.raises(ValueError, match="Unknown label"):
            class_labels.parse_list(text, 3, [])


def parse(text, names, count=2):
    return class_labels.parse_labels(text, count, len(names), names, seed=0).tolist()


@pytest.mark.parametrize("name", ["none", "None", "none, healthy"])
def test_a_word_that_names_a_class_is_refused_without_a_prefix(name):
    names = ["mild", name, "severe"]
    with pytest.raises(ValueError, match="write #none for the word, #1 for the class"):
        parse("none", names)
    with pytest.raises(ValueError, match="write #none for the word, #1 for the class"):
        parse("mild,None", names)
    assert parse("#none", names) == [3, 3]
    assert parse("#1", names) == parse("=none", names) == [1, 1]
    assert parse("mild,=none", names) == [0, 1]
    with pytest.raises(ValueError, match="write #none"):
        class_labels.parse_one("none", 3, names)
    for word in ("all", "random", "data"):
        with pytest.raises(ValueError, match=f"write #{word} for the word, #2"):
            parse(word, ["a", "b", word])


def test_words_have_any_case():
    assert parse("None", ["a", "b"]) == parse("#NONE", ["a", "b"]) == [2, 2]
    assert parse("All", ["a", "b"]) == [0, 1]
    with pytest.raises(ValueError, match=r"labels=data.* for evaluations"):
        parse("data", ["a", "b"])


def test_names_like_indices_and_like_lists_are_refused():
    assert class_labels.parse_list("#one", 2, ["#one", "two"]) == [0]
    assert class_labels.parse_list("#1,=#1", 2, ["a", "#1"]) == [1, 1]
    with pytest.raises(ValueError, match="'#1' is an index, and the name of a class; give =#1"):
        class_labels.parse_list("#1", 2, ["#1", "b"])
    with pytest.raises(ValueError, match=r"'cat, dog' is ambiguous.*#2"):
        class_labels.parse_list("cat,dog", 3, ["cat", "dog", "cat, dog"])


def test_text_of_a_label_is_read_as_that_label_alone():
    for names in (NAMES, NUMBERED, [], ["none", "#0", "a", "A", "cat, dog", "cat", "dog", "7"]):
        classes = len(names) or 4
        texts = [class_labels.label_text(label, classes, names) for label in range(classes)]
        assert [class_labels.parse_list(text, classes, names) for text in texts] == [
            [label] for label in range(classes)
        ]
        null = class_labels.label_text(classes, classes, names)
        assert class_labels.parse_one(null, classes, names) == classes
    assert class_labels.label_text(0, 5, NUMBERED) == "1"


def test_python_numbers_are_indices_and_texts_are_names():
    assert class_labels.parse_one(4, 5, NUMBERED) == 4
    assert class_labels.parse_one(np.int32(4), 5, NUMBERED) == 4
    assert class_labels.parse_one("3", 5, NUMBERED) == 4
    assert class_labels.parse_one("none", 5, NUMBERED) == class_labels.parse_one(5, 5, []) == 5
    for label in (True, 6, -1, 1.0, None, "1,2", "4"):
        with pytest.raises(ValueError, match=r"nknown label|names 2 classes"):
            class_labels.parse_one(label, 5, NUMBERED)


def test_list_of_classes_has_indices_and_names():
    assert class_labels.class_list(2, ["cat", "4"]) == ["#0 cat", "#1 4"]
    assert class_labels.class_list(2, []) == ["#0", "#1"]


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


def test_commands_list_the_classes_of_a_run(capsys):
    assert class_flag.print_classes(Path("digits")) == 0
    lines = [f"#{i} {i}" for i in range(10)]
    assert capsys.readouterr().out.splitlines() == lines
    commands = {"sample": [], "edit": ["vary"], "fid": ["evaluate"]}
    for script, command in commands.items():
        (done,) = run_each(script, [[*command, "--workdir=digits", "--classes"]])
        assert (done.returncode, done.stdout.splitlines()) == (0, lines), done.stderr
