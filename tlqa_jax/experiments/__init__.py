"""Experiments: programs that train several models and compare them.

    quickstart.py   the main job: does pretraining help a T5 to read and to remember?
    report.py       its table in the terminal and its page

`tlqa experiment NAME` measures a claim of the course, with several seeds:

    claims.py       a claim, and what the scores say about it
    lab.py          what all experiments share: their training runs, the claims judged, the result's files
    result_page.py  a result as tables, a figure and a page

    domain_transfer.py         reviews of places first, then a few of courses
    task_transfer.py           sentiment first, then questions
    bidirectional.py           an encoder that sees both sides, and one that looks back only
    one_model_many_tasks.py    one T5 for six tasks, and one for each
    more_data.py               the size of the pretraining corpus, at equal steps and at equal epochs
    labeled_or_unlabeled.py    ten times more text, or twice as many labels
    fewer_labels.py            labels and steps that pretraining saves
    features_or_finetuning.py  how much of a pretrained model to train
    pretraining_task.py        causal LM, masked LM, next sentences, random and salient spans
    quickstart_controls.py     the quickstart beside models that saw as many questions
"""
