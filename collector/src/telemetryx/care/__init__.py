"""Remote care of agents: what people push and ask, how it reaches live sessions, and what comes back.

people ─▶ service.py ─▶ store ─▶ links.py ─▶ sessions of the gateway ═▶ agents
             rollout.py: the first agents, then the rest        ◀═ states, answers
"""
