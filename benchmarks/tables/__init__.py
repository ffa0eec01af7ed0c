"""Quality tables: errors of trained models beside trivial baselines and published figures."""
