"""Enrolment: hosts join with a token, get a certificate from the collector's own authority, and keep it renewed.

    authority   the authority's key and certificate, and what it signs
    own         the certificate that the collector itself shows
    token       the line that a person pastes
    request     what a host sends, checked before anything is looked up
    service     who joins, renews, waits, is approved and revoked

The people's door (api/) carries the requests, the agents' door (gateway/) asks whose certificate it sees.
"""
