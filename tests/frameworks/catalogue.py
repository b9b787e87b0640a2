"""The frameworks that are tried, and what each one's run holds."""

from __future__ import annotations

from typing import Final

from tests.frameworks.jobs import Job

JOBS: Final = (
    # Estimates the loss before the first step and before the fourth.
    Job("nanogpt", "nanoGPT's loop", "transformers", before=3, evaluations=(3,)),
    # Has no optimizer.
    Job("word_language_model", "PyTorch's word language model", "torch", warns=True),
    Job("torchvision_mnist", "PyTorch's MNIST, torchvision", "torchvision", evaluations=(2, 2)),
    Job("transformers_trainer", "Transformers' Trainer", "transformers", evaluations=(1, 1)),
    Job("trl_sft", "TRL, SFT", "trl"),
    Job("trl_dpo", "TRL, DPO", "trl"),
    # Each of the four steps trains on 8 new tokens; a forward for each.
    Job("trl_grpo", "TRL, GRPO", "trl", before=8, evaluations=(8, 8, 8)),
    Job("peft_lora", "PEFT, LoRA", "peft"),
    Job("accelerate_loop", "Accelerate", "accelerate", evaluations=(2, 2)),
    # The sanity check before the first epoch is 2 batches, an epoch's validation 4; encoder and decoder in each.
    Job("lightning_automatic", "Lightning, automatic", "lightning", before=4, evaluations=(8, 8)),
    Job("lightning_manual", "Lightning, manual", "lightning", before=4, evaluations=(8, 8)),
    # The sanity check is 2 batches on each of 2 ranks, a trace for each, for there is no step to hold them together.
    Job("lightning_data_parallel", "Lightning, DDP", "lightning", before=4, evaluations=(2, 2)),
    Job("timm_loop", "timm", "timm", evaluations=(4, 4)),
    Job("sentence_transformers_fit", "sentence-transformers", "sentence-transformers"),
    # Two forwards count the operations of each model that it describes: the one that is made, the one that is trained,
    # the best of these. A validation is 2, of the second epoch's model there are two.
    Job("ultralytics_classify", "Ultralytics", "ultralytics", before=4, evaluations=(2, 2 + 2 + 2)),
    # A rollout is 64 actions and a value, which is three root forwards.
    Job("sb3_ppo", "Stable-Baselines3, PPO", "stable-baselines3", before=67, evaluations=(67,)),
    # After 20 random actions the network is asked, but for one in twenty: the 46th and the 53rd, with this seed. A step
    # of training after each four.
    Job(
        "sb3_dqn",
        "Stable-Baselines3, DQN",
        "stable-baselines3",
        before=4,
        evaluations=(4, 4, 4, 4, 4, 3, 4, 3, 4),
    ),
    # Trains in the 17th iteration, 16 counted from 0, and in each fourth after it, up to the 77th of 80.
    Job("cleanrl_dqn", "CleanRL's DQN", "torch", before=17, evaluations=(*(4,) * 15, 3)),
    # One batch: the module and the criterion.
    Job("skorch_classifier", "skorch", "skorch", evaluations=(2, 2)),
    Job("ignite_engines", "ignite", "pytorch-ignite", evaluations=(6, 6)),
    # Its optimizer is not torch's. Two batches: the model and the loss function.
    Job("fastai_learner", "fastai", "fastai", evaluations=(4, 4, 4), warns=True),
    Job("pyg_nodes", "PyTorch Geometric", "torch-geometric", evaluations=(1,) * 6),
    Job("ray_train", "Ray Train", "ray"),
    Job("fsdp2", "FSDP2", "torch", ranks=2),
    Job("pipelining", "torch's pipelining", "torch", ranks=2),
)
