"""Image networks of the size of the public ODE2VAE code for rotating digits."""

from __future__ import annotations

from torch import Tensor, nn


class ImageEncoder(nn.Module):
    """Mean and log standard deviation, (batch, dim) each, from images (batch, 1, 28, 28)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.Conv2d(16, 32, 5, stride=2, padding=2),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 64, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
        )
        self.loc = nn.Linear(1024, dim)
        self.log_scale = nn.Linear(1024, dim)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(images)
        return self.loc(features), self.log_scale(features)


class ImageDecoder(nn.Module):
    """Logits of images (batch, 1, 28, 28) from positions (batch, dim)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(dim, 1024),
            nn.Unflatten(1, (64, 4, 4)),
            nn.ConvTranspose2d(64, 128, 3),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 5, stride=2, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, 32, 5, stride=2, padding=1, output_padding=1),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.ConvTranspose2d(32, 1, 5, padding=2),
        )

    def forward(self, position: Tensor) -> Tensor:
        return self.layers(position)
