"""What a DICOM header may say of modality and body part without naming a person.

Both are code strings of a fixed vocabulary, but nothing keeps a scanner's user from typing anything there. With ids hashed, only
words of the vocabularies below are passed on; else whatever stands there.
"""

from __future__ import annotations

import re

# Plain words of the manifest for codes of PS3.3 C.7.3.1.1.1; every other code stays as it is (CT, MR, US, MG, PT, NM, XA ...).
PLAIN = {"CR": "XR", "DX": "XR", "RG": "XR", "IO": "XR", "PX": "XR", "OPT": "OCT"}

# PS3.3 C.7.3.1.1.1, retired ones last, and SC, which is none and common
MODALITIES = frozenset(
    """ANN AR ASMT AU BDUS BI BMD CFM CR CT CTPROTOCOL DG DMS DOC DX ECG EEG EMG EOG EPS ES FID GM HC HD IO IOL IVOCT IVUS KER KO
    LEN LS M3D MG MR NM OAM OCT OP OPM OPT OPTBSV OPTENF OPV OSS OT PA PLAN POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT
    RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SEG SM SMR SR SRF STAIN TEXTUREMAP TG US VA XA XAPROTOCOL XC
    AS CD CF CP CS DD DF DM DS EC FA FS LP MA MS OPR ST VF SC""".split()  # noqa: SIM905
)

# Words of which PS3.16 annex L makes its terms (CHESTABDPELVIS), and common ones beside them
_PARTS = """abdomen abdominal abd acetabulum achilles adrenal airway ankle anterior antrum anus aorta aortic appendix arm artery atrium
    axilla back bilateral bile bladder body bone bowel brachial brain breast bronchus buttock calcaneus calf cardiac carotid carpal
    cava cerebellum cerebral cervical cervix cheek chest clavicle coccyx colon cord cornea coronary cranial cspine ctspine dental disc
    duct duodenum ear elbow esophagus extremity eye eyelid face facial femoral femur fetal fetus fibula finger foot forearm forefoot
    gallbladder genital gland groin hand head heart heel hepatic hilum hindfoot hip humerus hypopharynx iac ileum iliac ilium
    inguinal intestine jaw jejunum joint jugular kidney knee larynx left leg limb lip liver lower lspine lsspine lumbar lumbosacral
    lung lymph mandible marrow mastoid maxilla mediastinum metacarpus metatarsus mouth muscle nasal nasopharynx neck nerve node
    nose orbit oropharynx ovary palate pancreas panorama parotid patella pediatric pelvic pelvis pelv penis pericardium
    peritoneum pharynx pituitary placenta pleura popliteal portal posterior prostate pulmonary radius rectum renal retina
    retroperitoneum rib right sacroiliac sacrum saliva scalp scapula sclera scrotum sella shoulder sigmoid sinus skeleton skin
    skull small soft spinal spine spleen sspine sternum stomach subclavian submandibular system tail talus teeth temporal testis thigh
    thoracic thorax throat thumb thymus thyroid tibia tissue tlspine tmj toe tongue tonsil tooth total trachea tspine trunk ulna
    umbilicus unknown upper ureter urethra urinary uterus vagina vein ventricle vertebra vessel vulva whole wholebody wrist zygoma
    circleofwillis ribs lungs kidneys feet hands legs arms knees hips eyes ears breasts toes fingers""".split()  # noqa: SIM905
_BESIDE = frozenset("a ap c di ct l lat li lt ll mlo cc of pa r re rt s t and both view part".split())  # noqa: SIM905
_BODY_PART = re.compile(rf"(?:{'|'.join(sorted(_PARTS, key=len, reverse=True))})+")


def modality(text: str, *, any_text: bool) -> str | None:
    """A header's modality in the manifest's words; None for what DICOM does not define, unless `any_text` may pass."""
    code = text.upper()
    if code not in MODALITIES and not any_text:
        return None
    return PLAIN.get(code, code)


def body_part(text: str, *, any_text: bool) -> str | None:
    """A header's body part in lower case; None for what is not made of words for parts of the body, unless `any_text` may pass."""
    lower = " ".join(text.lower().replace("/", " ").split())  # a slash would divide a label
    if any_text:
        return lower
    if not lower.isascii() or re.search(r"\d\d\d", lower):  # a date or a number of somebody
        return None
    words = [word for word in re.split(r"[^a-z]+", lower) if word and word not in _BESIDE]
    together = re.sub(r"[^a-z]", "", lower)  # C-SPINE
    return lower if (words and all(map(_BODY_PART.fullmatch, words))) or _BODY_PART.fullmatch(together) else None
