"""What rank 0 says outside the run folder."""

from mpirun_infer.model import RankVerdict
from mpirun_infer.roles.voice import ALIVE, ALIVE_S, LauncherVoice, PersonsVoice


def test_signs_of_life_are_regular_and_not_more(capsys):
    voice = LauncherVoice()
    for tenth in range(10 * int(3 * ALIVE_S)):
        voice.alive(100 + tenth / 10)
    assert capsys.readouterr().out == ALIVE * 3


def test_the_last_words_are_one_line_of_json(capsys):
    LauncherVoice().last_words(RankVerdict(exit_code=3, reason="two\nlines"), told=True)
    assert capsys.readouterr().out == '{"exit_code":3,"reason":"two\\nlines"}\n'


def test_a_person_hears_a_reason_once(capsys):
    voice = PersonsVoice()
    voice.last_words(RankVerdict(exit_code=3, reason="too many"), told=True)
    voice.last_words(RankVerdict(exit_code=0, reason=""), told=False)
    assert capsys.readouterr().err == ""
    voice.last_words(RankVerdict(exit_code=5, reason="bad \x1b[31m"), told=False)
    voice.last_words(RankVerdict(exit_code=0, reason="complete already"), told=False)
    assert capsys.readouterr().err == "mpirun-infer: bad \\x1b[31m\ncomplete already\n"
