"""Mixed precision: which layers agree, what each format costs them, and the best choice under a budget."""

from mtcore.opt.book import ScoreBook
from mtcore.opt.builtin import builtin_searchers
from mtcore.opt.decisions import AS_IT_IS, Decision, find_decisions, rest_bits
from mtcore.opt.recipe import check_agreement, recipe_text
from mtcore.opt.scoring import Loss, Scorer, Scores
from mtcore.opt.searcher import BudgetError, Searcher, Solution
from mtcore.opt.spec import Look, SearcherSpec
from mtcore.opt.totals import Totals

__all__ = [
    "AS_IT_IS",
    "BudgetError",
    "Decision",
    "Look",
    "Loss",
    "ScoreBook",
    "Scorer",
    "Scores",
    "Searcher",
    "SearcherSpec",
    "Solution",
    "Totals",
    "builtin_searchers",
    "check_agreement",
    "find_decisions",
    "recipe_text",
    "rest_bits",
]
