"""Rules: what is judged, in event time. load.py reads them, engine.py judges committed batches, link.py the connections.

The flow: service.py runs engine.py, which lets judge.py run window.py (values) and machine.py (states) over stored readings
and change.py compare the outcome with the alerts that are known. store/alerts.py has what is kept.
"""

from telemetryx.rules.load import RulesError, RuleSet, check_text, load_rules
from telemetryx.rules.service import RulesService

__all__ = ["RuleSet", "RulesError", "RulesService", "check_text", "load_rules"]
