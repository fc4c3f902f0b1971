"""Models to and from disk.

Reading order:

    load             the one door to pretrained models: runs, Hugging Face directories, names on the hub
    save             the same directories written
    usage            what is needed to use a model as it was trained, in `config.json`
    bert_names       BERT's parameters and sizes under Hugging Face's names
    t5_names         the same of T5
    family           what such a table of names consists of, and checks of `config.json`
    named_arrays     nested parameters as flat dicts, compared
    safetensors_files   arrays in files
    tokenizer_files  vocabularies in Hugging Face's directories
    directories      names of files, downloads from the hub, JSON
    run_record       the record of a training run: is it new, to be continued, or complete?
    resume           checkpoints of the training state
"""
