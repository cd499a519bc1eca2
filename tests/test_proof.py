"""The derivation as one document: a lemma per rule, steps that use earlier ones, a corollary per row."""

from __future__ import annotations

from dataclasses import replace

import pytest

from scalecalc.dossier import Dossier, dossier
from scalecalc.errors import InputError
from scalecalc.proof import Proof, proof_of
from scalecalc.report import derivation
from scalecalc.report.frame import read_csv, to_csv
from scalecalc.rule import find


@pytest.fixture(scope="module")
def s6() -> Dossier:
    return dossier("s6")


@pytest.fixture(scope="module")
def proof(s6: Dossier) -> Proof:
    assert s6.proof is not None
    return s6.proof


def test_every_rule_that_is_used_is_a_lemma(proof: Proof) -> None:
    assert {lemma.name for lemma in proof.lemmas} == {stage.rule for stage in proof.steps}
    assert [lemma.number for lemma in proof.lemmas] == list(range(1, len(proof.lemmas) + 1))
    for lemma in proof.lemmas:
        thing = find(lemma.kind, lemma.name)
        assert lemma.statement == thing.words
        assert lemma.source == thing.source
    assert proof.lemma("sgd").kind == "optimizer"
    assert r"\sum_{N_" in proof.lemma("contraction").equation
    assert any("mean that no symmetry removes" in text for text in proof.lemma("matmul").assumptions)


def test_steps_use_earlier_steps_and_no_step_is_listed_twice(proof: Proof) -> None:
    for stage in proof.steps:
        for factor in stage.uses:
            assert factor.stage is None or factor.stage < (stage.number or 0)
    assert len({(s.at, s.rule, s.lines) for s in proof.steps}) == len(proof.steps)


def test_a_corollary_is_the_rows_own_explanation(s6: Dossier, proof: Proof) -> None:
    assert [c.row.key for c in proof.corollaries] == [row.key for row in s6.table]
    for name, tag in (("y", "W_in"), ("h", "W_B")):
        row = s6.table.find(name, tag=tag)
        found = s6.table.explain(name, tag=tag)
        one = next(c for c in proof.corollaries if c.row.key == row.key)
        steps = [proof.steps[n - 1] for n in one.steps]
        ours, theirs = (sorted((s.at, s.rule, len(s.lines)) for s in stages) for stages in (steps, found.stages))
        assert ours == theirs
        assert one.assumptions == found.assumptions
        used = {f.stage for s in steps for f in s.uses if f.stage is not None}
        assert used <= set(one.steps)


def test_what_is_used_is_defined_once(proof: Proof) -> None:
    names = [one.name for one in proof.definitions]
    assert len(set(names)) == len(names)
    wanted = {"Spectral norm", "Law of large numbers", "Central limit theorem", "HiPPO transition", "Zero-order hold"}
    assert wanted <= set(names)
    mlp = dossier("mlp").proof
    assert mlp is not None
    assert "Zero-order hold" not in [one.name for one in mlp.definitions]


def test_latex_has_every_lemma_step_and_row(proof: Proof) -> None:
    text = derivation.to_latex(proof, "scalecalc report s6")
    assert text.startswith("% scalecalc report s6\n")
    assert text.count(r"\begin{lemma}") == len(proof.lemmas)
    assert text.count(r"\label{step:") == len(proof.steps)
    assert text.count(r"\begin{corollary}") == len(proof.corollaries)
    assert "[U+" not in text


def test_a_table_from_a_file_has_no_proof(s6: Dossier) -> None:
    with pytest.raises(InputError, match="carries no derivation"):
        proof_of(read_csv(to_csv(replace(s6.table, notes=()))))
