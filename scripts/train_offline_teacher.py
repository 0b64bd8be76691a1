"""Train the heads of the offline teacher on folders of captioned and named photos.

    python scripts/train_offline_teacher.py DATA --cache .cache/offline-teacher | tee docs/offline_teacher_run.log

DATA holds `imagenet_one_each/`, `flickr8k_1000/` and `image_text/`: in any depth, a folder with `captions.csv` or
`captions.txt` (image,caption) beside `images/`, or with `classes.csv` (folder,name) beside class folders.

MEMBERS pairs of heads are trained, all from one text matrix, and averaged. First a quarter of the named classes is
held out, to measure unseen names and to choose the logit scale; then the members are trained on everything, joined
and written. Prints the SHA-256 for `factory/teacher/offline.py`.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import torch
from offline_teacher_data import Material, gather, say
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div, log_softmax, normalize

from clip_factory.encoders.offline import HEADS, build_towers
from clip_factory.encoders.offline_heads import HIDDEN, ImageHead, TextHead

CAPTION_WEIGHT, NAME_WEIGHT, CLASS_WEIGHT = 1.5, 0.3, 1.5
BATCH, LEARNING_RATE, TEXT_LEARNING_RATE, WEIGHT_DECAY = 256, 1e-3, 3e-4, 0.05
DEFINITIONS = 0.3
"""How often a class is taught by its WordNet definition: this is where "Siamese" learns that it is a cat."""
MEMBERS = 2
"""Trainings that are averaged into the heads, each with its share of the hidden units."""
DECAY = 0.98
"""Of the running mean over steps that a training ends with (Polyak and Juditsky 1992)."""
BALANCE = 1.0
"""How far anchor and class loss make up for classes that crowd in text space: 0 not at all, 1 wholly."""
SPLIT = 0
"""Seed of the draw of held-out names and tasks; it stays when --seed changes, so that runs can be compared."""


# ------------------------------------------------------------------------------------------------ training


def new_heads(material: Material, classifier: nn.Linear) -> tuple[ImageHead, TextHead]:
    """Heads of one member that start as plain ConSE: the correction is zero and the projection the identity.

    Every member starts from this same projection, and stays close enough to it for the members to be averaged.
    """
    image, text = ImageHead(HIDDEN // MEMBERS), TextHead()
    image.classifier = classifier.requires_grad_(requires_grad=False)
    prototypes = normalize((material.class_texts[0].mean(1) + material.class_texts[1].mean(1)) / 2, dim=-1)
    text.mean = prototypes.mean(0)
    image.prototypes = text.centered(prototypes)
    image.handicap = BALANCE * crowding(image.prototypes).log()
    nn.init.eye_(text.project.weight)
    image.anchor.weight = text.project.weight  # one matrix while training: names move, and their photos with them
    nn.init.zeros_(image.correction[-1].weight)
    nn.init.zeros_(image.correction[-1].bias)
    return image, text


def crowding(prototypes: Tensor) -> Tensor:
    """How many classes (N,) lie around each of N unit vectors (N, D), itself included; only near ones count."""
    return (prototypes @ prototypes.T).clamp(min=0).pow(4).sum(1)


def pick(texts: Tensor) -> Tensor:
    """One of T texts for each of C names: (C, T, 384) -> (C, 384)."""
    return texts[torch.arange(len(texts)), torch.randint(texts.shape[1], (len(texts),))]


def cosines(images: Tensor, texts: Tensor) -> Tensor:
    """(N, D), (C, D) -> (N, C) in [-1, 1]."""
    return normalize(images, dim=-1) @ normalize(texts, dim=-1).T


def train(material: Material, classifier: nn.Linear, steps: int, seed: int) -> tuple[ImageHead, TextHead]:
    """Train the members and join them: the mean of their text matrices and of their corrections."""
    members = [train_member(material, classifier, steps, seed * MEMBERS + i) for i in range(MEMBERS)]
    image, text = new_heads(material, classifier)
    text.project.weight = image.anchor.weight = mean([member.project.weight for _, member in members])
    joined, parts = ImageHead(), [member.correction for member, _ in members]
    joined.classifier, joined.anchor = image.classifier, image.anchor
    joined.prototypes, joined.handicap = image.prototypes, image.handicap
    joined.correction[1].weight = nn.Parameter(torch.cat([part[1].weight for part in parts]))
    joined.correction[1].bias = nn.Parameter(torch.cat([part[1].bias for part in parts]))
    joined.correction[-1].weight = nn.Parameter(torch.cat([part[-1].weight for part in parts], dim=1) / MEMBERS)
    joined.correction[-1].bias = mean([part[-1].bias for part in parts])
    return joined.eval(), text.eval()


def mean(values: list[Tensor]) -> nn.Parameter:
    """The mean of equally shaped tensors."""
    return nn.Parameter(torch.stack(values).mean(0))


def train_member(material: Material, classifier: nn.Linear, steps: int, seed: int) -> tuple[ImageHead, TextHead]:
    """Train both heads on three losses at once: captions, named folders, the image tower's own class probabilities."""
    torch.manual_seed(seed)
    image, text = new_heads(material, classifier)
    scales = nn.Parameter(torch.full((3,), 20.0).log())
    groups = [
        {"params": image.correction.parameters(), "weight_decay": WEIGHT_DECAY},
        {"params": text.project.parameters(), "weight_decay": 0.0},
        {"params": [scales], "weight_decay": 0.0},
    ]
    rates = [LEARNING_RATE, TEXT_LEARNING_RATE, LEARNING_RATE]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps, pct_start=0.1)
    trained = nn.ModuleList([image.correction, text.project])
    running = torch.optim.swa_utils.AveragedModel(trained, avg_fn=running_mean)
    # between a draw by photo and a draw by class: a class of 800 photos is not 20 times one of 40
    chance = torch.bincount(material.labels).float()[material.labels].rsqrt()
    image.train()
    for step in range(1, steps + 1):
        losses = (
            caption_loss(material, image, text, scales[0].exp()),
            name_loss(material, image, text, scales[1].exp(), chance),
            class_loss(material, image, text, scales[2].exp()),
        )
        optimizer.zero_grad()
        (CAPTION_WEIGHT * losses[0] + NAME_WEIGHT * losses[1] + CLASS_WEIGHT * losses[2]).backward()
        optimizer.step()
        schedule.step()
        running.update_parameters(trained)
        if step % 100 == 0:
            say(f"  step {step}/{steps}: captions {losses[0]:.3f}, names {losses[1]:.3f}, classes {losses[2]:.3f}")
    trained.load_state_dict(running.module.state_dict())
    return image.eval(), text.eval()


def running_mean(old: Tensor, new: Tensor, count: Tensor | int) -> Tensor:
    """An exponential mean that forgets its start: its decay rises to DECAY with the number of updates."""
    keep = min(DECAY, (1 + float(count)) / (10 + float(count)))
    return keep * old + (1 - keep) * new


def caption_loss(material: Material, image: ImageHead, text: TextHead, scale: Tensor) -> Tensor:
    """Symmetric InfoNCE over a batch of photos and one caption each (Radford et al. 2021, arXiv:2103.00020)."""
    draw = torch.randperm(len(material.captioned))[:BATCH]
    logits = scale * cosines(image(material.features[material.captioned[draw]]), text(pick(material.captions[draw])))
    target = torch.arange(len(draw))
    return (cross_entropy(logits, target) + cross_entropy(logits.T, target)) / 2


def name_loss(material: Material, image: ImageHead, text: TextHead, scale: Tensor, chance: Tensor) -> Tensor:
    """Cross-entropy over all folder names, each in a template drawn anew."""
    draw = torch.multinomial(chance, BATCH, replacement=True)
    logits = scale * cosines(image(material.features[material.named[draw]]), text(pick(material.name_texts)))
    return cross_entropy(logits, material.labels[draw])


def class_loss(material: Material, image: ImageHead, text: TextHead, scale: Tensor) -> Tensor:
    """KL from the image tower's class probabilities to the heads' over the class texts (Hinton et al. 2015).

    It keeps what the tower knows of 1,000 classes while the other losses pull; any photo will do for it.
    """
    features = material.features[torch.randint(len(material.features), (BATCH,))]
    names, synonyms, definitions = material.class_texts
    chosen = definitions if torch.rand(()) < DEFINITIONS else (names, synonyms)[int(torch.randint(2, ()))]
    logits = scale * cosines(image(features), text(pick(chosen)))
    target = log_softmax(image.classifier(features) - image.handicap, dim=-1)
    return kl_div(log_softmax(logits, dim=-1), target, reduction="batchmean", log_target=True)


# ------------------------------------------------------------------------------------------------ measuring, writing


def unseen_tasks(material: Material, held: Tensor, image: ImageHead, text: TextHead) -> list[tuple[Tensor, Tensor]]:
    """200 tasks of 2 to 10 unseen names: cosines (n, k) of 10 photos a name at most, and labels (n,)."""
    generator = torch.Generator().manual_seed(SPLIT)
    with torch.inference_mode():
        photos = normalize(image(material.features[material.named]), dim=-1)
        phrases = normalize(normalize(text(material.name_texts[:, 1:]), dim=-1).mean(1), dim=-1)
    tasks = []
    for _ in range(200):
        size = int(torch.randint(2, 11, (), generator=generator))
        pool = held.nonzero()[:, 0]
        names = pool[torch.randperm(len(pool), generator=generator)[:size]]
        rows = [(material.labels == name).nonzero()[:10, 0] for name in names]
        target = torch.cat([torch.full((len(row),), i) for i, row in enumerate(rows)])
        tasks.append((photos[torch.cat(rows)] @ phrases[names].T, target))
    return tasks


def best_scale(tasks: list[tuple[Tensor, Tensor]]) -> float:
    """The factor on cosines whose softmax is likeliest over the tasks (Guo et al. 2017, arXiv:1706.04599)."""
    grid = torch.arange(4.0, 60.0, 0.5)
    return float(min(grid, key=lambda scale: sum(float(cross_entropy(scale * s, y)) for s, y in tasks)))


def write(image: ImageHead, text: TextHead, scale: float, path: Path) -> str:
    """Write the trained tensors in half precision under the teacher's names; returns the SHA-256."""
    tensors = {f"visual.head.{name}": value for name, value in image.state_dict().items()}
    tensors |= {f"text.proj.{name}": value for name, value in text.state_dict().items()}
    tensors = {name: value.half().clone() for name, value in tensors.items() if ".classifier." not in name}
    tensors["logit_scale"] = torch.tensor(scale).log()
    content = save(tensors)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def main() -> None:
    """Parse, gather, train twice, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with the training sets")
    parser.add_argument("--cache", type=Path, default=Path(".cache/offline-teacher"), help="where features are kept")
    parser.add_argument("--out", type=Path, default=HEADS, help="file to write (default: %(default)s)")
    parser.add_argument(
        "--steps", type=int, default=300, help="optimizer steps of each training (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the trainings (default: %(default)s)")
    parser.add_argument("--bfloat16", action="store_true", help="compute image features in bfloat16: faster, rounder")
    parser.add_argument("--threads", type=int, help="CPU threads; 1 is fastest on a busy machine")
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    say(f"python {sys.version.split()[0]}, torch {torch.__version__}, seed {args.seed}, steps {args.steps}")
    model = build_towers()
    classifier = model.visual.head.classifier
    material = gather(args.data.resolve(), args.cache, model, args.bfloat16)

    held = torch.zeros(len(material.names), dtype=torch.bool)
    held[torch.randperm(len(held), generator=torch.Generator().manual_seed(SPLIT))[: len(held) // 4]] = True
    say(f"training with {int(held.sum())} names held out")
    tasks = unseen_tasks(material, held, *train(material.without(held), classifier, args.steps, args.seed))
    accuracy = float(torch.stack([(s.argmax(1) == y).float().mean() for s, y in tasks]).mean())
    scale = best_scale(tasks)
    say(f"unseen names, tasks of 2 to 10: top-1 {accuracy:.3f}; logit scale {scale:.1f}")

    say("training on everything")
    digest = write(*train(material, classifier, args.steps, args.seed), scale, args.out)
    say(f"wrote {args.out.name}: {args.out.stat().st_size} bytes, sha256 {digest}")


if __name__ == "__main__":
    main()
