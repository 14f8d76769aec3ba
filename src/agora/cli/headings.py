"""The help of ``agora relay``: eighty flags, under a heading for what one looks for."""

from __future__ import annotations

from collections.abc import Mapping

import click

__all__ = ["HEADINGS", "REST", "Headed", "heading_of"]

HEADINGS: Mapping[str, tuple[str, ...]] = {
    "Place": ("host", "port", "public_name", "tls_", "data_dir", "memory", "env_file"),
    "Policy": ("storage_peers", "mailboxes", "proof", "envelopes", "verify", "freshness_"),
    "HTTP": (
        *("http", "allowed_origins", "trusted_proxies", "jwt_", "token_", "rest_"),
        *("max_challenges", "max_http_", "max_revoked_"),
    ),
    "Mail": (
        *("mailbox_", "store_", "storing_", "max_dead_letters", "retain", "window_"),
        *("ack_timeout", "max_nacks", "dedup_"),
    ),
    "Rates": ("rate_limit_", "broadcast_cost", "max_recipients"),
    "Watching": ("log_", "otel", "admin_token"),
}
"""What stands under which heading, by how the names of the settings begin."""

REST = "Connections and peers"
"""The heading of every other setting, and of ``--help``, which is the last of all."""


class Headed(click.Command):
    """A command whose options are told in parts, each under its heading."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, in their own order under each heading."""
        parts: dict[str, list[tuple[str, str]]] = {title: [] for title in (*HEADINGS, REST)}
        for param in self.get_params(ctx):
            if record := param.get_help_record(ctx):
                parts[heading_of(param.name or "")].append(record)
        for title, records in parts.items():
            with formatter.section(title):
                formatter.write_dl(records)


def heading_of(name: str) -> str:
    """
    Return the heading under which a setting stands.

    >>> heading_of("http_port"), heading_of("max_sessions")
    ('HTTP', 'Connections and peers')
    """
    for title, beginnings in HEADINGS.items():
        if name.startswith(beginnings):
            return title
    return REST
