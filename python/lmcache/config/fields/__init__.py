# SPDX-License-Identifier: Apache-2.0
"""The settings, one file per part of the system; `lmcache.config.model` puts them together."""
