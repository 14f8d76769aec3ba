"""
The relay's side: who may speak, where an envelope goes, who holds it meanwhile.

::

    session ──► router ──┬─► recipient ──► feed      one peer's mail, to each of its sessions
       │                 ├─► presence, watchers      who is told who is there
       │                 └─► notary                  what the relay says itself
       └─ admission, budgets, pins: what is let in   actions: what the shell is asked to do
"""
