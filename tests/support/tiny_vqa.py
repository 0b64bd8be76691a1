"""Models that answer questions about photos, with a few thousand random weights: saved as the hub's checkpoints are."""

from __future__ import annotations

import json
from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

WORDS = (
    "yes",
    "no",
    "Yes",
    "No",
    "is",
    "are",
    "there",
    "a",
    "an",
    "the",
    "red",
    "blue",
    "green",
    "disc",
    "bar",
    "photo",
    "thing",
    "in",
    "it",
    "this",
    "of",
    "question",
    "answer",
    "or",
    "any",
    "Question",
    "Answer",
    "User",
    "Assistant",
    "?",
    ".",
    ":",
    "!",
)
SPECIAL = (
    "<pad>",
    "<s>",
    "</s>",
    "<unk>",
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
)
CHAT = (
    "{{ bos_token }}{% for message in messages %}User:{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>{% else %} {{ part.text }}{% endif %}{% endfor %}"
    "<end_of_utterance>{% endfor %}"
    "{% if add_generation_prompt %} Assistant:{% endif %}"
)
README = "---\nlicense: cc0-1.0\n---\nRandom weights.\n"


def word_tokenizer(*missing: str) -> transformers.PreTrainedTokenizerFast:
    """Whole words with a mark for the space before them, as SentencePiece does; `missing` are not known."""
    marked = [f"\u2581{word}" for word in WORDS if word not in missing]
    rows = [f"<row_{y}_col_{x}>" for y in range(1, 7) for x in range(1, 7)]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *rows, *marked])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Punctuation(), pre_tokenizers.Metaspace("\u2581", prepend_scheme="always")]
    )
    tokenizer.decoder = decoders.Metaspace("\u2581")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", vocabulary["<s>"])]
    )
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=[*SPECIAL[4:], *rows],
        extra_special_tokens={"image_token": "<image>"},
    )


def bert_tokenizer() -> transformers.PreTrainedTokenizerFast:
    """WordPiece of small letters, as BERT has it."""
    special = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys((*special, *(w.lower() for w in WORDS))))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.Lowercase(), pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return transformers.BertTokenizerFast(tokenizer_object=tokenizer, vocab=vocabulary)


def vilt(folder: Path, answers: tuple[str, ...] = ("no", "blue", "yes", "2")) -> Path:
    """A classifier of answers."""
    torch.manual_seed(1)
    tokenizer = bert_tokenizer()
    config = transformers.ViltConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=16,
        image_size=32,
        patch_size=8,
        id2label=dict(enumerate(answers)),
        label2id={name: index for index, name in enumerate(answers)},
        initializer_range=0.5,
        max_image_length=6,  # parts of a photo, drawn at random: fewer than there are
    )
    image_processor = transformers.ViltImageProcessor(size={"shortest_edge": 32}, size_divisor=8)
    processor = transformers.ViltProcessor(image_processor, tokenizer)
    return _saved(folder, transformers.ViltForQuestionAnswering(config), processor)


def blip(folder: Path) -> Path:
    """An encoder of questions with a decoder of answers."""
    torch.manual_seed(2)
    tokenizer = bert_tokenizer()
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**shape, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "max_position_embeddings": 40}
    text |= {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "initializer_range": 0.5}
    config = transformers.BlipConfig(
        text_config=text, vision_config={**shape, "image_size": 32, "patch_size": 8, "initializer_range": 0.5}
    )
    processor = transformers.BlipProcessor(transformers.BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer)
    return _saved(folder, transformers.BlipForQuestionAnswering(config), processor)


def idefics3(folder: Path, *missing: str, chat: str | None = CHAT) -> Path:
    """SmolVLM's kind: large photos are seen in parts, so that prompts are of different lengths."""
    torch.manual_seed(3)
    tokenizer = word_tokenizer(*missing)
    config = transformers.Idefics3Config(
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 16,
            "patch_size": 4,
            "initializer_range": 0.5,
        },
        text_config=_llama(len(tokenizer)),
    )
    image_processor = transformers.Idefics3ImageProcessor(
        size={"longest_edge": 64}, max_image_size={"longest_edge": 16}, do_image_splitting=True
    )
    processor = transformers.Idefics3Processor(image_processor, tokenizer, image_seq_len=4, chat_template=chat)
    return _saved(folder, transformers.Idefics3ForConditionalGeneration(config), processor)


def llava(folder: Path, chat: str | None = None) -> Path:
    """CLIP's image tower before a language model; without a chat template, as the first of its kind."""
    torch.manual_seed(4)
    tokenizer = word_tokenizer()
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlavaConfig(
        vision_config=transformers.CLIPVisionConfig(**vision, image_size=16, patch_size=4, projection_dim=16),
        text_config=transformers.LlamaConfig(**_llama(len(tokenizer))),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=16,
    )
    image_processor = transformers.CLIPImageProcessor(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16})
    processor = transformers.LlavaProcessor(
        image_processor,
        tokenizer,
        patch_size=4,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat,
    )
    return _saved(folder, transformers.LlavaForConditionalGeneration(config), processor)


def _llama(words: int) -> dict[str, object]:
    return {
        "model_type": "llama",
        "vocab_size": words,
        "hidden_size": 16,
        "intermediate_size": 16,
        "pad_token_id": 0,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 2,
        "initializer_range": 0.5,
        "max_position_embeddings": 512,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }


def _saved(folder: Path, model: transformers.PreTrainedModel, processor: transformers.ProcessorMixin) -> Path:
    model.eval().save_pretrained(folder)
    processor.save_pretrained(folder)
    (folder / "README.md").write_text(README, encoding="utf-8")
    return folder


def rename_architecture(folder: Path, name: str) -> None:
    """Have a checkpoint say that it is of another class."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, "architectures": [name]}), encoding="utf-8")
