"""Small stand-ins for the zip files of image-net.org, in both of their formats."""

import io
import pickle
import zipfile

import numpy as np

MEMBERS = {
    "train_part1": ("train_data_batch_1", "train_data_batch_2"),
    "train_part2": ("train_data_batch_3", "train_data_batch_10"),
    "val": ("val_data",),
}


def make_zips(folder, *, npz=False, protocol=4, images=20, largest_label=10):
    """Writes the three files, and returns their (images, labels) by member."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    content = {}
    for part, members in MEMBERS.items():
        path = folder / f"Imagenet64_{part}{'_npz' if npz else ''}.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member in members:
                data = generator.integers(0, 256, (images, 3 * 64 * 64), dtype=np.uint8)
                labels = generator.integers(1, largest_label + 1, images)
                labels[0] = largest_label
                content[member] = data, labels
                values = {"data": data, "labels": labels}
                if npz:
                    buffer = io.BytesIO()
                    np.savez_compressed(buffer, **values)
                    archive.writestr(f"{member}.npz", buffer.getvalue())
                else:
                    values |= {"labels": labels.tolist(), "mean": data.mean(0)}
                    archive.writestr(member, pickle.dumps(values, protocol))
    return content
