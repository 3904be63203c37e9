"""Beam steps and coders; nothing else imports Beam."""
