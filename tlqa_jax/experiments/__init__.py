"""Experiments: programs that train several models and compare them.

    quickstart.py   the main job: does pretraining help a T5 to read and to remember?
    report.py       its table in the terminal and its page
"""
