"""Models to and from disk. In reading order:

    load             opens pretrained models: runs, Hugging Face directories, names on the hub
    save             the same directories, written
    usage            what is needed to use a model as it was trained
    directories      names of files, downloads from the hub, JSON
    family           rules that map our parameters to Hugging Face's arrays and back; checks of `config.json`
    bert_names       these rules, and `config.json`, for BERT
    t5_names         the same for T5
    added_parts      LoRA, in PEFT's layout, and adapters: small files beside the model that they belong to
    own_names        the same for models that Transformers has not: word vectors, heads on features
    named_arrays     nested parameters as flat dicts, and how two of them differ
    weights          arrays in safetensors files
    tokenizer_files  vocabularies in Hugging Face directories
    tokenizer_json   one of their files: a vocabulary with its rules
    run_record       the record of a run: whether it is new, can be continued, or is complete
    run_lock         one run, one writer
    resume           checkpoints of the training state

A directory that we write, a run or an export, is one that Transformers opens: `config.json`, `model.safetensors`,
`vocab.txt` or `spiece.model`, `tokenizer_config.json`, `special_tokens_map.json`.
"""
