"""Why the default recipe differs from the published one: one reason per option, or the documents are not built."""

from __future__ import annotations

REASONS = {
    "--model.image_size": "the cost of attention grows with the square of the number of patches; minutes on a CPU",
    "--model.backbone": "both start from random weights: a small network learns in minutes, and the nearest normal "
    "images as second input spare it from learning where the parts of an object lie",
    "--model.feature_layers": "the same: the last block",
    "--model.attention_layers": "with the published weights the regulariser hardly moves anything, and it costs a pass "
    "over all attention maps; a switch",
    "--model.discriminator_heads": "in proportion to the width of the backbone",
    "--model.discriminator_hidden": "in proportion to the width of the backbone",
    "--model.dropout": "with dropout every step of an attack climbs another network; weight averaging regularises",
    "--model.position_std": "a table drawn from N(0, 1) drowns the features at the start",
    "--model.top_k": "a share of the patches means the same at every image size",
    "--model.sigma": "in proportion to the image size",
    "--model.radius": "two sigmas; the published kernel is cut off after little more than one",
    "--training.max_time": "a wall-clock budget, turned into a fixed number of updates after the first ones",
    "--training.max_steps": "see `max_time`",
    "--training.max_epochs": "see `max_time`",
    "--training.learning_rate": "for the smaller network",
    "--training.weight_decay": "on matrices only, as usual for transformers; the published value is the optimiser's "
    "default, its own option is read and never used",
    "--training.schedule": "per update instead of per epoch, since epochs say nothing on small data",
    "--training.warmup_steps": "AdamW's first updates are the largest",
    "--training.gradient_clip": "one bad batch of attacked images does not undo the run",
    "--training.average_decay": "averaged weights are smoother, hence harder to attack, at no cost",
    "--training.precision": "bfloat16 where products are faster in it, which is measured",
    "--training.epsilon": "a smaller radius leaves faint defects something to be seen by; a switch",
    "--training.epsilon_warmup": "a detector that separates nothing yet learns nothing from a full-strength attack",
    "--training.replays": "free adversarial training: the gradient of an update serves weights and perturbation at "
    "once, so an attack costs no passes of its own",
    "--training.attack_steps": "refused while `replays` is above 1, where an attack goes on from update to update",
    "--training.clean_fraction": "share of the loss that unattacked images get; refused while `replays` is above 1",
    "--training.augment": "few normal images: mirror them, vary the light a little",
    "--training.look_every": "cheap attacks can be overfitted; only a multi-step attack on held-out images shows it",
    "--training.look_images": "images for `look_every`",
    "--training.batch_size": "more updates in the same time",
    "--generator": "real defects are not only rotated rectangles of the same image; see below",
    "--method": "other weights of the loss, another training attack; see below",
}
